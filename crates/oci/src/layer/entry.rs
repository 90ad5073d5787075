//! The entry of a layer, as the reader hands it out.

use crate::content::blob::Blob;
use crate::layer::path::Path;
use crate::layer::sparse::SparseFile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// One entry of a layer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Path,
    pub(crate) kind: EntryKind,
    pub(crate) meta: Meta,
}

/// The kind of an entry, with what belongs to it.
#[derive(Debug)]
pub(crate) enum EntryKind {
    Dir,
    File(FileData),
    Symlink(Box<[u8]>),
    /// A hard link to the inode at this path.
    Link(Path),
    /// A character device, with major and minor number.
    Char(u32, u32),
    /// A block device, with major and minor number.
    Block(u32, u32),
    Fifo,
    /// Removes the path if it comes from a lower layer.
    Whiteout,
    /// Removes the children of the path that come from lower layers.
    Opaque,
}

/// The content of a regular file.
#[derive(Clone, Debug)]
pub(crate) enum FileData {
    /// Stored as it is.
    Dense(Blob),
    /// Stored without its holes.
    Sparse(Arc<SparseFile>),
}

impl FileData {
    /// The file's size, with its holes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Dense(blob) => blob.len,
            Self::Sparse(sparse) => sparse.size(),
        }
    }
}

/// Owner, permissions, modification time, extended attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch, within the range of SquashFS.
    pub(crate) mtime: u32,
    /// `None` without attributes, which is the common case.
    pub(crate) xattrs: Option<Box<Xattrs>>,
}
