//! One daemon per data directory.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Held while it lives; the kernel lets go of it when the process ends,
/// however it does.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    /// The lock is the open file.
    _file: File,
}

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another daemon has it.
    #[error("another updraft daemon (pid {pid}) works on this data directory")]
    Held {
        /// Its process id, or 0 if it has not said.
        pid: i32,
    },
    /// The file cannot be made.
    #[error("open lock file {path}")]
    Open {
        /// Its path.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
}

impl DataDirLock {
    /// Takes the lock at once, or says who has it.
    pub(crate) fn take(data_dir: &Utf8Path) -> Result<Self, LockError> {
        let (path, mut file) = open(data_dir)?;
        let failed = |err| LockError::Open { path: path.clone(), err };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { pid: read_pid(&mut file) });
            }
            Err(err) => return Err(failed(err.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Waits until whoever has it lets go. Blocks the thread.
    pub(crate) fn wait(data_dir: &Utf8Path) -> Result<Self, LockError> {
        let (path, file) = open(data_dir)?;
        let failed = |err: rustix::io::Errno| LockError::Open { path, err: err.into() };
        flock(&file, FlockOperation::LockExclusive).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn open(data_dir: &Utf8Path) -> Result<(Utf8PathBuf, File), LockError> {
    let path = data_dir.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // A link here would have us overwrite what it points to.
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    match options.open(&path) {
        Ok(file) => Ok((path, file)),
        Err(err) => Err(LockError::Open { path, err }),
    }
}

fn read_pid(file: &mut File) -> i32 {
    let mut text = String::new();
    // Who has just taken it may not have written yet.
    let _ = file.take(20).read_to_string(&mut text);
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let first = DataDirLock::take(dir).unwrap();
        let held = DataDirLock::take(dir).unwrap_err();
        assert!(matches!(held, LockError::Held { pid } if pid == std::process::id() as i32));
        drop(first);
        DataDirLock::take(dir).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        std::fs::write(dir.join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink(dir.join("victim"), dir.join("lock")).unwrap();
        assert!(matches!(DataDirLock::take(dir), Err(LockError::Open { .. })));
        assert_eq!(std::fs::read_to_string(dir.join("victim")).unwrap(), "precious");
    }
}
