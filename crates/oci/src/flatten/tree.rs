//! Layers merged in memory, by the rules of the OCI layer specification.
//!
//! Names refer to inodes, as in a file system, so a hard link keeps its inode
//! when the other name is replaced. Each name records the layer that it came
//! from: a whiteout removes only names of lower layers, at any place in its layer
//! the whiteout is.
//!
//! Symbolic links on the way to an entry are followed as a `chroot` would:
//! `..` at the root stays there, and nothing here touches a real file system.

use crate::config::limits::Limits;
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind, FileData, Meta};
use crate::layer::metadata_budget::MetadataBudget;
use crate::layer::path::{Path, display};
use std::collections::BTreeMap;

/// Symbolic links followed on one path, as in Linux.
const MAX_HOPS: u32 = 40;
/// Names resolved because of symbolic links, per image. Without this limit each
/// entry of a hostile image could cost a hundred thousand steps.
const MAX_LINK_STEPS: u64 = 50_000_000;
/// Memory of a directory that no entry describes; the limit of entries does not count it.
const IMPLIED: usize = 256;

/// Names of a directory.
pub(crate) type Children = BTreeMap<Box<[u8]>, Name>;

/// The inode of a name in a directory, and the layer of the name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) inode: usize,
    layer: u32,
}

/// The type of an inode, with its content.
#[derive(Debug)]
pub(crate) enum Kind {
    Dir(Children),
    File(FileData),
    Symlink(Box<[u8]>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// An inode.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    /// The last layer for which [`Tree::prune`] has run.
    pruned: u32,
}

/// The merged layers.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    layer: u32,
    link_steps: u64,
    /// Bytes of all holes, which take time and space when the image is written.
    hole_bytes: u64,
    metadata: MetadataBudget,
    limits: Limits,
}

impl Tree {
    /// The inode of the root directory.
    pub(crate) const ROOT: usize = 0;

    /// An empty root.
    pub(crate) fn new(limits: Limits) -> Self {
        let root = Inode { kind: Kind::Dir(Children::new()), meta: implied(), pruned: 0 };
        let metadata = MetadataBudget::new(limits.metadata_bytes);
        Self { inodes: vec![root], layer: 0, link_steps: 0, hole_bytes: 0, metadata, limits }
    }

    /// An inode.
    pub(crate) fn inode(&self, inode: usize) -> &Inode {
        &self.inodes[inode]
    }

    /// The number of inodes; each inode's number is below it.
    pub(crate) fn inodes(&self) -> usize {
        self.inodes.len()
    }

    /// The rest of the budget for metadata.
    pub(crate) fn metadata(&self) -> &MetadataBudget {
        &self.metadata
    }

    /// Begins the next layer.
    pub(crate) fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Applies one entry of the current layer.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<()> {
        let shown = display(&entry.path.join(&b'/'));
        let context = |error: Error| error.within(&format!("entry {shown:?}"));
        match entry.kind {
            EntryKind::Opaque => {
                if let Ok(Some(dirs)) = self.dirs(&entry.path, false) {
                    self.prune(top(&dirs));
                }
                Ok(())
            }
            EntryKind::Whiteout => {
                self.hide(&entry.path);
                Ok(())
            }
            _ => self.put(entry).map_err(context),
        }
    }

    fn put(&mut self, entry: Entry) -> Result<()> {
        self.metadata.charge_attributes(&entry.meta)?;
        let Some((name, above)) = entry.path.split_last() else {
            return self.put_root(entry);
        };
        let dirs = self.dirs(above, true)?.ok_or_else(|| Error::refused("has no parent"))?;
        let (dir, layer) = (top(&dirs), self.layer);
        let existing = self.child(dir, name);
        let inode = match entry.kind {
            EntryKind::Link(target) => self.target(&target)?,
            EntryKind::Dir => match existing.map(|known| (known, &mut self.inodes[known.inode])) {
                Some((known, Inode { kind: Kind::Dir(_), meta, .. })) => {
                    *meta = entry.meta;
                    known.inode
                }
                _ => self.add_dir(&dirs, entry.meta)?,
            },
            EntryKind::File(data) => {
                self.charge_sparse(&data)?;
                self.add(Kind::File(data), entry.meta)
            }
            EntryKind::Symlink(target) => {
                self.metadata.charge(target.len())?;
                self.add(Kind::Symlink(target), entry.meta)
            }
            EntryKind::Char(major, minor) => self.add(Kind::Char(major, minor), entry.meta),
            EntryKind::Block(major, minor) => self.add(Kind::Block(major, minor), entry.meta),
            EntryKind::Fifo => self.add(Kind::Fifo, entry.meta),
            EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
        };
        self.enter(dir, name.clone(), Name { inode, layer })
    }

    /// Takes the map and the holes of a sparse file from their budgets.
    fn charge_sparse(&mut self, data: &FileData) -> Result<()> {
        let FileData::Sparse(sparse) = data else { return Ok(()) };
        self.metadata.charge(sparse.map_bytes())?;
        let limit = self.limits.unpacked_bytes;
        let holes = self.hole_bytes.checked_add(sparse.hole_bytes());
        let holes = holes.filter(|holes| *holes <= limit);
        self.hole_bytes = holes.ok_or_else(|| {
            Error::refused(format!(
                "the holes of its sparse files exceed the limit of {limit} bytes"
            ))
        })?;
        Ok(())
    }

    fn put_root(&mut self, entry: Entry) -> Result<()> {
        if !matches!(entry.kind, EntryKind::Dir) {
            return Err(Error::refused("would replace the root"));
        }
        self.inodes[Self::ROOT].meta = entry.meta;
        Ok(())
    }

    /// The inode at the target of a hard link.
    fn target(&mut self, path: &Path) -> Result<usize> {
        let shown = display(&path.join(&b'/'));
        let missing = || Error::refused(format!("is a hard link to {shown:?}, which is not there"));
        let (name, above) = path.split_last().ok_or_else(missing)?;
        let dirs = self.dirs(above, false)?.ok_or_else(missing)?;
        let found = self.child(top(&dirs), name).ok_or_else(missing)?;
        if matches!(self.inodes[found.inode].kind, Kind::Dir(_)) {
            return Err(Error::refused(format!("is a hard link to the directory {shown:?}")));
        }
        Ok(found.inode)
    }

    /// The directories from the root to `path`. A missing one is created if
    /// `make` is set, also where a symbolic link leads, as `mkdir -p` in a
    /// `chroot` would; otherwise the result is `None`.
    fn dirs(&mut self, path: &[Box<[u8]>], make: bool) -> Result<Option<Vec<usize>>> {
        let mut dirs = vec![Self::ROOT];
        // The names left to resolve, the last one first, and whether each comes
        // from a symbolic link.
        let mut todo: Vec<(Box<[u8]>, bool)> =
            path.iter().rev().map(|name| (name.clone(), false)).collect();
        let mut hops = 0;
        while let Some((name, from_link)) = todo.pop() {
            if from_link {
                self.link_steps += 1;
                if self.link_steps > MAX_LINK_STEPS {
                    return Err(Error::refused("follows too many symbolic links"));
                }
            }
            if &*name == b".." {
                // Only targets of links contain it; the root's parent is the root.
                if dirs.len() > 1 {
                    dirs.pop();
                }
                continue;
            }
            let found = self.child(top(&dirs), &name);
            match found.map(|found| (found.inode, &self.inodes[found.inode].kind)) {
                Some((inode, Kind::Dir(_))) => dirs.push(inode),
                Some((_, Kind::Symlink(target))) => {
                    hops += 1;
                    if hops > MAX_HOPS {
                        return Err(Error::refused("is below symbolic links that go in circles"));
                    }
                    if target.starts_with(b"/") {
                        dirs.truncate(1);
                    }
                    let names = target.split(|&b| b == b'/').rev();
                    let names = names.filter(|name| !matches!(*name, b"" | b"."));
                    todo.extend(names.map(|name| (Box::from(name), true)));
                }
                Some(_) => {
                    return Err(Error::refused("is below something that is not a directory"));
                }
                None if !make => return Ok(None),
                None => {
                    self.metadata.charge(IMPLIED)?;
                    let inode = self.add_dir(&dirs, implied())?;
                    let layer = self.layer;
                    self.enter(top(&dirs), name, Name { inode, layer })?;
                    dirs.push(inode);
                }
            }
        }
        Ok(Some(dirs))
    }

    /// Removes the name `path` as far as it comes from lower layers.
    fn hide(&mut self, path: &Path) {
        let Some((name, above)) = path.split_last() else { return };
        let Ok(Some(dirs)) = self.dirs(above, false) else { return };
        let dir = top(&dirs);
        let Some(found) = self.child(dir, name) else { return };
        let mut found = found;
        let stays = self.outlives(&mut found);
        if let Some(children) = self.children(dir) {
            if stays {
                children.insert(name.clone(), found);
            } else {
                children.remove(name);
            }
        }
    }

    /// Whether a name remains when all names of lower layers are removed. A
    /// removed directory with an entry of this layer is like a new directory.
    fn outlives(&mut self, name: &mut Name) -> bool {
        let rest = self.prune(name.inode);
        if name.layer == self.layer {
            return true;
        }
        if rest {
            name.layer = self.layer;
            self.inodes[name.inode].meta = implied();
        }
        rest
    }

    /// Removes all names below `dir` that come from lower layers. Returns
    /// whether names of the current layer remain.
    ///
    /// It runs once per directory and layer: no older name can appear later, and
    /// a hostile layer could otherwise repeat it a million times.
    fn prune(&mut self, dir: usize) -> bool {
        let layer = self.layer;
        let inode = &mut self.inodes[dir];
        let Kind::Dir(children) = &mut inode.kind else { return false };
        if inode.pruned == layer {
            return !children.is_empty();
        }
        inode.pruned = layer;
        let mut kept = std::mem::take(children);
        kept.retain(|_, name| self.outlives(name));
        let any = !kept.is_empty();
        if let Some(children) = self.children(dir) {
            *children = kept;
        }
        any
    }

    fn child(&self, dir: usize, name: &[u8]) -> Option<Name> {
        match &self.inodes[dir].kind {
            Kind::Dir(children) => children.get(name).copied(),
            _ => None,
        }
    }

    fn children(&mut self, dir: usize) -> Option<&mut Children> {
        match &mut self.inodes[dir].kind {
            Kind::Dir(children) => Some(children),
            _ => None,
        }
    }

    /// Puts a name into a directory.
    fn enter(&mut self, dir: usize, name: Box<[u8]>, leads: Name) -> Result<()> {
        self.metadata.charge(name.len())?;
        if let Some(children) = self.children(dir) {
            children.insert(name, leads);
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, meta: Meta) -> usize {
        self.inodes.push(Inode { kind, meta, pruned: 0 });
        self.inodes.len() - 1
    }

    fn add_dir(&mut self, above: &[usize], meta: Meta) -> Result<usize> {
        // Links can put a short path deep down.
        if above.len() > self.limits.depth {
            let limit = self.limits.depth;
            return Err(Error::refused(format!("is deeper than the limit of {limit} directories")));
        }
        let inode = self.add(Kind::Dir(Children::new()), meta);
        // It is new in this layer, so it has no older children.
        self.inodes[inode].pruned = self.layer;
        Ok(inode)
    }
}

/// The last directory of a path from the root.
fn top(dirs: &[usize]) -> usize {
    dirs.last().copied().unwrap_or(Tree::ROOT)
}

/// The metadata of a directory that no layer describes.
fn implied() -> Meta {
    Meta { mode: 0o755, ..Meta::default() }
}
