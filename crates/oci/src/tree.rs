//! Layers merged in memory, by the rules of the OCI layer specification.
//!
//! Names point at inodes, as in a file system, so a hard link keeps what it
//! linked to when the other name is replaced. Each name knows the layer it came
//! from: whiteouts take only what came from below, wherever in their layer they
//! stand.
//!
//! Symbolic links on the way to an entry are followed as a `chroot` would:
//! `..` at the root stays there, and nothing here touches a real file system.

use crate::blob::Blob;
use crate::config::Limits;
use crate::fault::{Fault, Result};
use crate::index::{Entry, Meta, Path, What, show};
use crate::metadata::Metadata;
use std::collections::BTreeMap;

/// Symbolic links followed on one path (as Linux does).
const MAX_HOPS: u32 = 40;
/// Names walked because of symbolic links, for a whole image: a hostile image
/// could otherwise make each entry cost a hundred thousand steps.
const MAX_LINK_STEPS: u64 = 50_000_000;
/// Memory for a directory that no entry describes: no limit of entries counts those.
const IMPLIED: usize = 256;

/// Names of a directory.
pub(crate) type Children = BTreeMap<Box<[u8]>, Name>;

/// What a name in a directory leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) inode: usize,
    layer: u32,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Kind {
    Dir(Children),
    File(Blob),
    Symlink(Box<[u8]>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// A file of any kind.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    /// The last layer that hid all below from before it; see [`Tree::prune`].
    pruned: u32,
}

/// The merged layers.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    layer: u32,
    link_steps: u64,
    metadata: Metadata,
    limits: Limits,
}

impl Tree {
    /// The inode of the root directory.
    pub(crate) const ROOT: usize = 0;

    /// An empty root.
    pub(crate) fn new(limits: Limits) -> Self {
        let root = Inode { kind: Kind::Dir(Children::new()), meta: made(), pruned: 0 };
        let metadata = Metadata::new(limits.metadata_bytes);
        Self { inodes: vec![root], layer: 0, link_steps: 0, metadata, limits }
    }

    /// An inode.
    pub(crate) fn inode(&self, inode: usize) -> &Inode {
        &self.inodes[inode]
    }

    /// Inodes ever made; all numbers are below.
    pub(crate) fn inodes(&self) -> usize {
        self.inodes.len()
    }

    /// What is left for metadata.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What follows comes from a layer above all so far.
    pub(crate) fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Applies one entry of the present layer.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<()> {
        let shown = show(&entry.path.join(&b'/'));
        let context = |fault: Fault| fault.within(&format!("entry {shown:?}"));
        match entry.what {
            What::Opaque => {
                if let Ok(Some(dirs)) = self.dirs(&entry.path, false) {
                    self.prune(top(&dirs));
                }
                Ok(())
            }
            What::Whiteout => {
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
        let dirs = self.dirs(above, true)?.ok_or_else(|| Fault::refused("has no parent"))?;
        let (dir, layer) = (top(&dirs), self.layer);
        let existing = self.child(dir, name);
        let inode = match entry.what {
            What::Link(target) => self.target(&target)?,
            What::Dir => match existing.map(|known| (known, &mut self.inodes[known.inode])) {
                Some((known, Inode { kind: Kind::Dir(_), meta, .. })) => {
                    *meta = entry.meta;
                    known.inode
                }
                _ => self.add_dir(&dirs, entry.meta)?,
            },
            What::File(blob) => self.add(Kind::File(blob), entry.meta),
            What::Symlink(target) => {
                self.metadata.charge(target.len())?;
                self.add(Kind::Symlink(target), entry.meta)
            }
            What::Char(major, minor) => self.add(Kind::Char(major, minor), entry.meta),
            What::Block(major, minor) => self.add(Kind::Block(major, minor), entry.meta),
            What::Fifo => self.add(Kind::Fifo, entry.meta),
            What::Whiteout | What::Opaque => return Ok(()),
        };
        self.enter(dir, name.clone(), Name { inode, layer })
    }

    fn put_root(&mut self, entry: Entry) -> Result<()> {
        if !matches!(entry.what, What::Dir) {
            return Err(Fault::refused("would replace the root"));
        }
        self.inodes[Self::ROOT].meta = entry.meta;
        Ok(())
    }

    /// The inode that a hard link is to share.
    fn target(&mut self, path: &Path) -> Result<usize> {
        let shown = show(&path.join(&b'/'));
        let missing = || Fault::refused(format!("is a hard link to {shown:?}, which is not there"));
        let (name, above) = path.split_last().ok_or_else(missing)?;
        let dirs = self.dirs(above, false)?.ok_or_else(missing)?;
        let found = self.child(top(&dirs), name).ok_or_else(missing)?;
        if matches!(self.inodes[found.inode].kind, Kind::Dir(_)) {
            return Err(Fault::refused(format!("is a hard link to the directory {shown:?}")));
        }
        Ok(found.inode)
    }

    /// The directories on the way to `path`, from the root to itself. If one is
    /// missing it is made, or there is none.
    fn dirs(&mut self, path: &[Box<[u8]>], make: bool) -> Result<Option<Vec<usize>>> {
        let mut dirs = vec![Self::ROOT];
        // What is still to be walked, last first; whether a link says so.
        let mut todo: Vec<(Box<[u8]>, bool)> =
            path.iter().rev().map(|name| (name.clone(), false)).collect();
        let mut hops = 0;
        while let Some((name, from_link)) = todo.pop() {
            if from_link {
                self.link_steps += 1;
                if self.link_steps > MAX_LINK_STEPS {
                    return Err(Fault::refused("follows too many symbolic links"));
                }
            }
            if &*name == b".." {
                // Only links say so; above the root is the root.
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
                        return Err(Fault::refused("is below symbolic links that go in circles"));
                    }
                    if target.starts_with(b"/") {
                        dirs.truncate(1);
                    }
                    let names = target.split(|&b| b == b'/').rev();
                    let names = names.filter(|name| !matches!(*name, b"" | b"."));
                    todo.extend(names.map(|name| (Box::from(name), true)));
                }
                Some(_) => return Err(Fault::refused("is below something that is no directory")),
                None if !make => return Ok(None),
                None if from_link => {
                    return Err(Fault::refused("is below a symbolic link that leads nowhere"));
                }
                None => {
                    self.metadata.charge(IMPLIED)?;
                    let inode = self.add_dir(&dirs, made())?;
                    let layer = self.layer;
                    self.enter(top(&dirs), name, Name { inode, layer })?;
                    dirs.push(inode);
                }
            }
        }
        Ok(Some(dirs))
    }

    /// Takes away what layers below put at `path`.
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

    /// Whether a name is still there when all from layers below is hidden. A
    /// hidden directory in which this layer put something is as if made anew.
    fn outlives(&mut self, name: &mut Name) -> bool {
        let rest = self.prune(name.inode);
        if name.layer == self.layer {
            return true;
        }
        if rest {
            name.layer = self.layer;
            self.inodes[name.inode].meta = made();
        }
        rest
    }

    /// Takes away all below `dir` that came from layers below the present one.
    /// Says whether something of the present layer is left.
    ///
    /// Done once per directory and layer: nothing old comes in between, and a
    /// hostile layer could otherwise ask for it a million times.
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
            return Err(Fault::refused(format!("is deeper than the limit of {limit} directories")));
        }
        let inode = self.add(Kind::Dir(Children::new()), meta);
        // It is new in this layer: nothing below is older.
        self.inodes[inode].pruned = self.layer;
        Ok(inode)
    }
}

/// The innermost of directories on a way, which begins at the root.
fn top(dirs: &[usize]) -> usize {
    dirs.last().copied().unwrap_or(Tree::ROOT)
}

/// What a directory is that no layer describes.
fn made() -> Meta {
    Meta { mode: 0o755, ..Meta::default() }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
