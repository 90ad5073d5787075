//! One daemon per data directory.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Held while it lives; the kernel releases it when the process ends,
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
        /// Its process id, or 0 if it has not written it yet.
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
    /// Takes the lock at once, or returns the process that has it.
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

    /// Takes the lock; waits for at most `patience` if its holder has been killed.
    ///
    /// The lock outlives the process for a moment: while the kernel tears it down,
    /// and as long as a child that it was about to run has the descriptor.
    pub(crate) async fn take_after(
        data_dir: &Utf8Path,
        patience: Duration,
    ) -> Result<Self, LockError> {
        let pid = match Self::take(data_dir) {
            Err(LockError::Held { pid }) if is_ending(pid) => pid,
            taken => return taken,
        };
        let dir = data_dir.to_owned();
        let waited = tokio::task::spawn_blocking(move || Self::wait(&dir));
        match tokio::time::timeout(patience, waited).await {
            // Given up for a moment, to write the pid as every holder does.
            Ok(Ok(lock)) => lock.map(drop).and_then(|()| Self::take(data_dir)),
            _ => Err(LockError::Held { pid }),
        }
    }

    /// Waits until the process that holds it releases it. Blocks the thread.
    pub(crate) fn wait(data_dir: &Utf8Path) -> Result<Self, LockError> {
        let (path, file) = open(data_dir)?;
        let failed = |err: rustix::io::Errno| LockError::Open { path, err: err.into() };
        flock(&file, FlockOperation::LockExclusive).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The process is gone, a zombie, or about to be ended by SIGKILL.
fn is_ending(pid: i32) -> bool {
    if pid <= 0 {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => status_is_ending(&status),
        Err(err) => err.kind() == io::ErrorKind::NotFound,
    }
}

/// By `/proc/<pid>/status`, see proc(5): the state, and the pending signals.
fn status_is_ending(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (9 - 1);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default()
    };
    let pending = |name| u64::from_str_radix(field(name), 16).unwrap_or(0) & SIGKILL != 0;
    field("State:").starts_with(['Z', 'X']) || pending("SigPnd:") || pending("ShdPnd:")
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
    fn the_second_gets_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let first = DataDirLock::take(dir).unwrap();
        let held = DataDirLock::take(dir).unwrap_err();
        assert!(matches!(held, LockError::Held { pid } if pid == std::process::id() as i32));
        drop(first);
        DataDirLock::take(dir).unwrap();
    }

    #[tokio::test]
    async fn a_lock_of_a_dead_daemon_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let patience = Duration::from_secs(30);
        let held = DataDirLock::take(dir).unwrap();
        // The holder lives: no wait.
        let refused = DataDirLock::take_after(dir, patience).await.unwrap_err();
        assert!(matches!(refused, LockError::Held { pid } if pid == std::process::id() as i32));
        // A holder that has ended, and whose child has the descriptor.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        std::fs::write(dir.join("lock"), format!("{pid}\n")).unwrap();
        let mut taking = Box::pin(DataDirLock::take_after(dir, patience));
        assert!(futures_util::poll!(&mut taking).is_pending(), "it waits");
        drop(held);
        taking.await.unwrap();
    }

    #[test]
    fn a_process_that_is_ending_by_its_status() {
        for (status, ending) in [
            ("State:\tS (sleeping)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n", false),
            ("State:\tR (running)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n", true),
            ("State:\tR (running)\nSigPnd:\t0000000000004000\nShdPnd:\t0000000000000000\n", false),
            ("State:\tZ (zombie)\n", true),
        ] {
            assert_eq!(status_is_ending(status), ending, "{status}");
        }
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
