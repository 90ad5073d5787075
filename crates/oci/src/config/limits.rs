//! Limits of one image.

/// Limits of one image; an image beyond one of them is refused.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all layers, unpacked, with the holes of sparse files (8 GiB, the size of a root file system on Fly).
    pub unpacked_bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// Layers.
    pub layers: usize,
    /// Bytes of a manifest or an index.
    pub manifest_bytes: u64,
    /// Bytes of an image config.
    pub config_bytes: u64,
    /// Bytes of a path or of a link's target.
    pub path_bytes: usize,
    /// Depth of nested directories.
    pub depth: usize,
    /// Bytes of all extended attributes of one entry.
    pub xattr_bytes: usize,
    /// Bytes of all names, links, extended attributes and sparse maps of an
    /// image, including those that a later layer replaces. They are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 8 << 30,
            entries: 1_000_000,
            layers: 256,
            manifest_bytes: 4 << 20,
            config_bytes: 8 << 20,
            path_bytes: 4096,
            depth: 256,
            xattr_bytes: 128 << 10,
            metadata_bytes: 256 << 20,
        }
    }
}
