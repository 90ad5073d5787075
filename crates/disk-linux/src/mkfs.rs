//! Runs `mkfs.ext4` with a deadline.

use crate::deadline::Deadline;
use camino::Utf8Path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::io;
use std::process::{Child, Command, Output, Stdio};
use worker::ports::PortError;

/// Options that make `mkfs.ext4` leave the file a file of holes: neither it nor
/// the guest zeroes the inode tables. e2fsprogs before 1.47 does not know the
/// first; with the second the guest zeroes them in the background.
const EXTENDED: [&str; 2] =
    ["assume_storage_prezeroed=1", "lazy_itable_init=1,lazy_journal_init=1"];

/// The purpose of a file system, which decides its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The disk never grows, hence no resize inode.
    Scratch,
    /// It can be grown while it is mounted.
    Volume,
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scratch => "template",
            Self::Volume => "volume",
        })
    }
}

impl Purpose {
    fn options(self) -> [&'static str; 2] {
        match self {
            Self::Scratch => ["-O^resize_inode", "-Lscratch"],
            Self::Volume => ["-Oresize_inode,metadata_csum,64bit", "-Lvolume"],
        }
    }
}

/// Makes an ext4 file system in the file at `path`.
///
/// # Errors
/// `program` is missing, fails, or is not done at the deadline; it is killed then.
pub(crate) fn mkfs(
    program: &str,
    path: &Utf8Path,
    purpose: Purpose,
    deadline: &Deadline,
) -> Result<(), PortError> {
    let mut stderr = String::new();
    for extended in EXTENDED {
        let output =
            run(program, path, (purpose, extended), deadline).map_err(|err| match err.kind() {
                io::ErrorKind::NotFound => {
                    PortError::new("run mkfs.ext4 (install the package e2fsprogs)", err)
                }
                io::ErrorKind::TimedOut => {
                    let attempted = format!("run mkfs.ext4 on {path} (is the disk overloaded?)");
                    PortError::new(attempted, err).transient()
                }
                _ => PortError::new(format!("run mkfs.ext4 on {path}"), err),
            })?;
        if output.status.success() {
            return Ok(());
        }
        stderr = String::from_utf8_lossy(&output.stderr).trim().chars().take(400).collect();
    }
    Err(PortError::plain(format!("make {purpose} {path}: mkfs.ext4: {stderr}")))
}

fn run(
    program: &str,
    path: &Utf8Path,
    (purpose, extended): (Purpose, &str),
    deadline: &Deadline,
) -> io::Result<Output> {
    // No blocks are reserved for root, which is the usual user of a guest.
    let mut child = Command::new(program)
        .args(["-q", "-F", "-m", "0"])
        .args(purpose.options())
        .args(["-E", &format!("{extended},nodiscard,root_owner=0:0")])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Err(err) = wait(&child, deadline) {
        child.kill()?;
        child.wait()?;
        return Err(err);
    }
    child.wait_with_output()
}

/// Waits for the exit of the process. Its messages fit into the pipe.
fn wait(child: &Child, deadline: &Deadline) -> io::Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.left().map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    #[test]
    fn a_mkfs_that_hangs_is_killed_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mkfs");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let begun = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(50));
        // Another test may be between fork and exec, and hold the script open for writing.
        let err = loop {
            let err =
                mkfs(program.to_str().unwrap(), "/dev/null".into(), Purpose::Scratch, &deadline)
                    .unwrap_err();
            if !rt::chain(&err).contains("Text file busy") {
                break err;
            }
        };
        assert!(err.transient, "{err}");
        assert!(begun.elapsed() < Duration::from_secs(500));
    }

    #[test]
    fn a_mkfs_that_is_missing_names_the_package() {
        let err = mkfs("/nonexistent/mkfs", "/dev/null".into(), Purpose::Volume, &Deadline::none());
        let err = err.unwrap_err();
        assert!(err.to_string().contains("e2fsprogs"), "{err}");
    }
}
