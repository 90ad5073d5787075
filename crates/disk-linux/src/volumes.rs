//! Disks of volumes: raw sparse files, each with a file system of its own.

use crate::deadline::Deadline;
use crate::mkfs::{Purpose, mkfs};
use crate::reflink::create_file;
use camino::{Utf8Path, Utf8PathBuf};
use model::volume::FileSystem;
use std::fs::{self, File};
use std::io;
use std::time::Duration;
use worker::ports::PortError;

/// A disk that takes longer than this is not made. Usual is 20 to 500 ms.
const CREATE_TIMEOUT: Duration = Duration::from_secs(50);

/// See [`worker::ports::Disks::create_volume`].
pub(crate) async fn create(
    path: &Utf8Path,
    bytes: u64,
    fstype: FileSystem,
) -> Result<(), PortError> {
    let path = path.to_owned();
    let attempted = format!("make the volume {path}");
    let deadline = Deadline::after(CREATE_TIMEOUT);
    let made = tokio::task::spawn_blocking(move || make(&path, bytes, fstype, &deadline));
    made.await.map_err(|err| PortError::new(attempted, err))?
}

fn make(
    path: &Utf8Path,
    bytes: u64,
    fstype: FileSystem,
    deadline: &Deadline,
) -> Result<(), PortError> {
    let temp = Utf8PathBuf::from(format!("{path}.new"));
    let failed = |err| PortError::new(format!("make the volume {path}"), err);
    let made = write(&temp, bytes, fstype, deadline);
    let made = made.and_then(|()| publish(&temp, path).map_err(failed));
    if made.is_err() {
        // The error to report is the one that led here; a file that stays is removed with
        // the volume.
        let _ = fs::remove_file(&temp);
    }
    made
}

fn write(
    temp: &Utf8Path,
    bytes: u64,
    fstype: FileSystem,
    deadline: &Deadline,
) -> Result<(), PortError> {
    let made = create_file(temp).and_then(|file| file.set_len(bytes));
    made.map_err(|err| PortError::new(format!("make {temp}"), err))?;
    match fstype {
        FileSystem::Ext4 => mkfs("mkfs.ext4", temp, Purpose::Volume, deadline),
        FileSystem::Raw => Ok(()),
    }
}

/// Gives the disk its name once it is on stable storage.
fn publish(temp: &Utf8Path, path: &Utf8Path) -> io::Result<()> {
    File::open(temp)?.sync_all()?;
    // Unlike a rename, a link never replaces a file.
    fs::hard_link(temp, path)?;
    fs::remove_file(temp)?;
    path.parent().map_or(Ok(()), |dir| rt::fs::sync_dir(dir.as_std_path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::process::Command;

    fn create_now(path: &Utf8Path, bytes: u64, fstype: FileSystem) -> Result<(), PortError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(create(path, bytes, fstype))
    }

    fn features(path: &Utf8Path) -> String {
        let output = Command::new("dumpe2fs").args(["-h", path.as_str()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("Filesystem features"));
        line.unwrap_or_default().to_owned()
    }

    #[test]
    fn a_volume_is_sparse_whole_and_can_grow() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let (a, b) = (dir.join("a.raw"), dir.join("b.raw"));
        create_now(&a, 1 << 30, FileSystem::Ext4).unwrap();
        create_now(&b, 500 << 30, FileSystem::Ext4).unwrap();
        for (path, bytes) in [(&a, 1_u64 << 30), (&b, 500 << 30)] {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.len(), found.permissions().mode() & 0o777), (bytes, 0o600));
            assert!(found.blocks() * 512 < 64 << 20, "{path} is sparse: {}", found.blocks());
            for feature in ["resize_inode", "metadata_csum", "has_journal"] {
                assert!(features(path).contains(feature), "{}", features(path));
            }
        }
        let check = Command::new("e2fsck").args(["-fn", a.as_str()]).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        assert_eq!(dir.read_dir_utf8().unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn no_volume_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let path = dir.join("a.raw");
        create_now(&path, 4096, FileSystem::Raw).unwrap();
        fs::write(&path, "data").unwrap();
        let err = create_now(&path, 4096, FileSystem::Raw).unwrap_err();
        assert!(rt::chain(&err).contains("exists"), "{}", rt::chain(&err));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        assert_eq!(dir.read_dir_utf8().unwrap().count(), 1, "nothing else is left");
        // What a crash left is no obstacle.
        fs::write(dir.join("b.raw.new"), "half").unwrap();
        create_now(&dir.join("b.raw"), 4096, FileSystem::Raw).unwrap();
    }

    #[test]
    fn a_volume_that_cannot_be_made_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        // Below what ext4 needs.
        create_now(&dir.join("a.raw"), 4096, FileSystem::Ext4).unwrap_err();
        assert_eq!(dir.read_dir_utf8().unwrap().count(), 0);
    }
}
