//! The files of volumes: `volumes/<id>.raw` of the data directory. While one is made it has
//! another name; both names are removed with the volume.

use crate::context::{HostContext, blocking, remove_file};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::VolumeId;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Directory of the volumes below the data directory.
const DIR: &str = "volumes";
/// What names of disks end with.
const SUFFIX: &str = ".raw";

impl HostContext {
    /// The directory of all volumes.
    pub(crate) fn volumes_dir(&self) -> Utf8PathBuf {
        self.config.data_dir.join(DIR)
    }

    /// The disk of a volume.
    pub(crate) fn volume_path(&self, id: VolumeId) -> Utf8PathBuf {
        self.volumes_dir().join(format!("{id}{SUFFIX}"))
    }

    /// Removes the disk of a volume, durably. One that is not there is fine.
    pub(crate) async fn remove_volume_disk(&self, id: VolumeId) -> io::Result<()> {
        let (dir, path) = (self.volumes_dir(), self.volume_path(id));
        blocking(move || {
            remove_file(&path)?;
            remove_file(&Utf8PathBuf::from(format!("{path}.new")))?;
            rt::fs::sync_dir(dir.as_std_path())
        })
        .await
    }

    /// Removes a disk that was not made to the end: one that has its name stays.
    pub(crate) async fn remove_unfinished_disk(&self, id: VolumeId) -> io::Result<()> {
        let path = Utf8PathBuf::from(format!("{}.new", self.volume_path(id)));
        blocking(move || remove_file(&path)).await
    }

    /// Bytes that the disks of volumes take on the host.
    pub(crate) async fn volume_bytes_used(&self, ids: Vec<VolumeId>) -> BTreeMap<VolumeId, u64> {
        let paths: Vec<_> = ids.into_iter().map(|id| (id, self.volume_path(id))).collect();
        let measure = move || {
            let used = |path: &Utf8Path| std::fs::metadata(path).map(|file| file.blocks() * 512);
            Ok(paths.into_iter().map(|(id, path)| (id, used(&path).unwrap_or(0))).collect())
        };
        // It does not fail.
        blocking(measure).await.unwrap_or_default()
    }
}

/// The volume whose disk has this path.
pub(crate) fn volume_of(path: &Utf8Path) -> Option<VolumeId> {
    path.file_name()?.strip_suffix(SUFFIX)?.parse().ok()
}
