//! Reads a layer's tar, entry by entry, each within the limits.
//!
//! Headers are read here and not by `tar::Archive`, since extended attributes
//! are binary (a capability contains NUL and may contain a newline), sizes come
//! from either header, and every length must be checked before it is used.

use crate::config::limits::Limits;
use crate::content::blob::Blob;
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind, FileData, Meta};
use crate::layer::header::{self, BLOCK};
use crate::layer::path::{display, normalize};
use crate::layer::pax::{Extensions, long_name};
use crate::layer::sparse::{self, SparseFile};
use std::sync::Arc;
use tar::{EntryType, Header};

/// To system calls such as `chown` the id 2^32-1 means "no change", so no file
/// or process can have it.
const NO_ID: u32 = u32::MAX;

/// Calls `each` for every entry of the tar, in order.
pub(crate) fn for_each(
    tar: &Blob,
    limits: &Limits,
    mut each: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    let mut extensions = Extensions::default();
    while let Some(header) = header::read(tar, at)? {
        at += BLOCK;
        let kind = header.entry_type();
        let size = data_size(&header, &extensions)?;
        let mut old_map = None;
        if kind == EntryType::GNUSparse {
            let (real_size, regions, after) = sparse::old_gnu(&header, tar, at)?;
            old_map = Some((real_size, regions));
            at = after;
        }
        if size > tar.len.saturating_sub(at) {
            return Err(Error::refused("the tar is truncated within an entry"));
        }
        let data = tar.slice(at, size);
        at += size.div_ceil(BLOCK) * BLOCK;
        match kind {
            EntryType::GNULongName => extensions.path = Some(long_name(&data, limits)?),
            EntryType::GNULongLink => extensions.link = Some(long_name(&data, limits)?),
            EntryType::XHeader => extensions.read(&data, limits)?,
            // Applies to all entries that follow; in practice it has comments only.
            EntryType::XGlobalHeader => {}
            _ => {
                let extensions = std::mem::take(&mut extensions);
                let data = match old_map {
                    Some((size, map)) => {
                        FileData::Sparse(Arc::new(SparseFile::new(size, map, data)?))
                    }
                    None => match extensions.sparse.file(&data)? {
                        Some(file) => FileData::Sparse(Arc::new(file)),
                        None => FileData::Dense(data),
                    },
                };
                if let Some(found) = entry(&header, &extensions, data, limits)? {
                    each(found)?;
                }
            }
        }
    }
    Ok(())
}

/// Bytes of data that follow the header.
fn data_size(header: &Header, extensions: &Extensions) -> Result<u64> {
    use EntryType as T;
    let own = || header::number(&header.as_old().size);
    match header.entry_type() {
        // These have no data, regardless of their size (as Go's `archive/tar` reads them).
        T::Link | T::Symlink | T::Char | T::Block | T::Directory | T::Fifo => Ok(0),
        T::XHeader | T::XGlobalHeader | T::GNULongName | T::GNULongLink => {
            own().ok_or_else(|| Error::refused("an extension's size is no number"))
        }
        _ => extensions
            .size
            .or_else(own)
            .ok_or_else(|| Error::refused("an entry's size is no number")),
    }
}

fn entry(
    header: &Header,
    ext: &Extensions,
    data: FileData,
    limits: &Limits,
) -> Result<Option<Entry>> {
    let raw = ext.path().cloned().unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = display(&raw);
    let refuse = |problem: &str| Error::refused(format!("entry {shown:?} {problem}"));
    let path = normalize(&raw, limits).map_err(|problem| refuse(&problem))?;
    let meta = meta(header, ext).map_err(|problem| refuse(&problem))?;
    let kind = match header.entry_type() {
        // Version 7 had no type for directories.
        EntryType::Regular if raw.ends_with(b"/") => EntryKind::Dir,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::File(data),
        EntryType::Directory => EntryKind::Dir,
        EntryType::Symlink => {
            let target = link(header, ext);
            if target.is_empty() || target.len() > limits.path_bytes || target.contains(&0) {
                return Err(refuse("is a symbolic link with an empty, too long or invalid target"));
            }
            EntryKind::Symlink(target.into())
        }
        EntryType::Link => {
            let target = link(header, ext);
            EntryKind::Link(normalize(&target, limits).map_err(|problem| {
                refuse(&format!("is a hard link to {:?}, which {problem}", display(&target)))
            })?)
        }
        EntryType::Char | EntryType::Block => {
            let (major, minor) =
                device(header).ok_or_else(|| refuse("has invalid device numbers"))?;
            match header.entry_type() {
                EntryType::Char => EntryKind::Char(major, minor),
                _ => EntryKind::Block(major, minor),
            }
        }
        EntryType::Fifo => EntryKind::Fifo,
        other => {
            let byte = char::from(other.as_byte());
            return Err(refuse(&format!("is of the unknown type {byte:?}")));
        }
    };
    whiteout(Entry { path, kind, meta }).map_err(|problem| refuse(&problem))
}

fn link(header: &Header, ext: &Extensions) -> Vec<u8> {
    let own = || header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
    ext.link.clone().unwrap_or_else(own)
}

/// Major and minor number, within the kernel's ranges.
fn device(header: &Header) -> Option<(u32, u32)> {
    let bytes = header.as_bytes();
    let major = header::number(&bytes[329..337]).filter(|major| *major < 1 << 12)?;
    let minor = header::number(&bytes[337..345]).filter(|minor| *minor < 1 << 20)?;
    Some((major as u32, minor as u32))
}

fn meta(header: &Header, ext: &Extensions) -> Result<Meta, String> {
    let old = header.as_old();
    let id = |extension: Option<u64>, raw: &[u8]| {
        let id = extension.or_else(|| header::number(raw));
        let id = id.ok_or_else(|| "has an owner that is no number".to_owned())?;
        match u32::try_from(id) {
            Ok(valid) if valid != NO_ID => Ok(valid),
            _ => Err(format!("has the owner {id}, and ids end at {}", NO_ID - 1)),
        }
    };
    // An invalid time, or one before the epoch, is no reason to refuse an image.
    let mtime = ext.mtime.or_else(|| header::number(&old.mtime)).unwrap_or(0);
    let mode = header::number(&old.mode).ok_or("has a mode that is no number")?;
    Ok(Meta {
        mode: (mode & 0o7777) as u32,
        uid: id(ext.uid, &old.uid)?,
        gid: id(ext.gid, &old.gid)?,
        mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
        xattrs: (!ext.xattrs.is_empty()).then(|| Box::new(ext.xattrs.clone())),
    })
}

/// Turns entries with the prefix `.wh.` into whiteouts, by the OCI layer
/// specification. `None` for an entry that is no part of the image.
fn whiteout(mut entry: Entry) -> Result<Option<Entry>, String> {
    let above = entry.path.len().saturating_sub(1);
    // Bookkeeping of AUFS, no files of the image.
    let aufs = |name: &[u8]| name.starts_with(b".wh..wh.") && name != b".wh..wh..opq";
    if entry.path.iter().any(|name| aufs(name)) {
        return Ok(None);
    }
    if entry.path.iter().take(above).any(|name| name.starts_with(b".wh.")) {
        return Err("is below a whiteout".into());
    }
    let Some(name) = entry.path.last().and_then(|name| name.strip_prefix(b".wh.")) else {
        return Ok(Some(entry));
    };
    match name {
        b".wh..opq" => {
            entry.path.pop();
            entry.kind = EntryKind::Opaque;
        }
        b"" | b"." | b".." => return Err("is a whiteout of nothing".into()),
        name => {
            let name = name.into();
            entry.path.pop();
            entry.path.push(name);
            entry.kind = EntryKind::Whiteout;
        }
    }
    Ok(Some(entry))
}
