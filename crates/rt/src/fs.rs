//! Atomic, durable writes: a file is complete or unchanged after a crash.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the temporary names of this process differ.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Replaces the file at `path` by `bytes` with exactly these permission bits,
/// regardless of the umask, durably: after a return it survives a power cut; before,
/// the former file does. A symbolic link at `path` is replaced, not followed.
///
/// # Errors
/// Those of the file system; the former file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("path has no parent"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("path has no file name"))?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!(".{}.{}.{number}.tmp", name.to_string_lossy(), std::process::id());
    let temp = dir.join(name);
    // Of an earlier process of the same number that was killed in between.
    match fs::remove_file(&temp) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let written = (|| {
        // Only a new file: a file or link that another process put there is never written to.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode & 0o700).open(&temp)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one above.
        let _ = fs::remove_file(&temp);
    }
    written?;
    sync_dir(dir)
}

/// Makes renames and removals in a directory durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("file"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        // As if another process knew the next names.
        let next = NEXT.load(Ordering::Relaxed);
        for number in next..next + 8 {
            let name = format!(".file.{}.{number}.tmp", std::process::id());
            symlink(&victim, dir.path().join(name)).unwrap();
        }
        write_atomic(&path, b"new", 0o640).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir_all(path.join("full")).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
