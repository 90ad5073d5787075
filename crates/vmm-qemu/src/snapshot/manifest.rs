//! The manifest of a snapshot: what belongs together, and as what files.

use crate::memory::Digest;
use crate::process::boot_dir::Description;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use worker::ports::Snapshot;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const RAM: &str = "ram";
pub(super) const STATE: &str = "state";
/// Version of the manifest.
pub(super) const VERSION: u32 = 1;
/// A device state is tens of kilobytes.
pub(super) const STATE_MAX: u64 = 16 << 20;
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) boot: String,
    pub(super) note: String,
    pub(super) platform: BTreeMap<String, String>,
    pub(super) vm: Description,
    pub(super) ram: Identity,
    pub(super) ram_sum: Digest,
    pub(super) state_sum: String,
    pub(super) root: DiskIdentity,
    pub(super) scratch: DiskIdentity,
    #[serde(default)]
    pub(super) images: Vec<DiskIdentity>,
    #[serde(default)]
    pub(super) volumes: Vec<DiskIdentity>,
}

/// Identity of a file: while it is unchanged, so is the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) inode: u64,
    pub(super) len: u64,
    pub(super) changed: (i64, i64),
}

/// A disk as the guest left it. It may have been moved, not written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DiskIdentity {
    pub(super) len: u64,
    pub(super) modified: (i64, i64),
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(Self { inode: found.ino(), len: found.len(), changed })
    }
}

impl DiskIdentity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { len: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

/// The snapshot in `dir`, if its manifest is there and can be read.
pub(crate) fn find(dir: &Utf8Path) -> Option<Snapshot> {
    let manifest = read(dir).ok()?;
    Some(Snapshot { boot: manifest.boot.parse().ok()?, note: manifest.note })
}

pub(super) fn read(dir: &Utf8Path) -> io::Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST))?)?;
    match manifest.version {
        VERSION => Ok(manifest),
        other => Err(io::Error::other(format!("its manifest has version {other}"))),
    }
}

/// Invalidates the snapshot in `dir` and syncs the directory. The other files stay.
pub(crate) fn invalidate(dir: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(dir.join(MANIFEST)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
        Ok(()) => rt::fs::sync_dir(dir.as_std_path()),
    }
}
