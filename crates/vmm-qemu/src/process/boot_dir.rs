//! The directory of one boot: `<run_dir>/<machine>/<boot>/`.
//!
//! Only root can enter it, the VM's own user cannot: what is in it can be
//! trusted. `pid` identifies the process, written by the launcher before it
//! does anything else; `agent.sock` and `qmp.sock` are made by the daemon and
//! handed to QEMU already listening.

use crate::process::pidfd::Identity;
use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use worker::ports::BootSpec;

pub(crate) const AGENT: &str = "agent.sock";
pub(crate) const QMP: &str = "qmp.sock";
const PID: &str = "pid";
/// The VM's [`Description`].
const ABOUT: &str = "about.json";
/// There while the guest has not run since it was restored from a snapshot.
const WAITS: &str = "waits";
/// There while a snapshot is being made, with its directory as content.
const SAVING: &str = "saving";

/// The properties of a VM that a snapshot has to agree with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) network: bool,
    pub(crate) root: Utf8PathBuf,
    pub(crate) scratch: Utf8PathBuf,
    /// Further images.
    #[serde(default)]
    pub(crate) images: Vec<Utf8PathBuf>,
    /// Disks of volumes.
    #[serde(default)]
    pub(crate) volumes: Vec<Utf8PathBuf>,
}

impl Description {
    pub(crate) fn of(spec: &BootSpec) -> Self {
        Self {
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            network: spec.nic.is_some(),
            root: spec.root.clone(),
            scratch: spec.scratch.clone(),
            images: spec.images.clone(),
            volumes: spec.volumes.clone(),
        }
    }
}

/// The paths of one boot.
#[derive(Clone, Debug)]
pub(crate) struct BootDir {
    pub(crate) machine: MachineId,
    pub(crate) boot: BootId,
    pub(crate) path: Utf8PathBuf,
}

impl BootDir {
    pub(crate) fn new(run_dir: &Utf8Path, machine: MachineId, boot: BootId) -> Self {
        let path = run_dir.join(machine.to_string()).join(boot.to_string());
        Self { machine, boot, path }
    }

    /// `<machine>-<boot>`: the name of its cgroups, and in its command line.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.machine, self.boot)
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        ok_if_absent(fs::remove_dir_all(&self.path))?;
        // Other boots of the machine may still be there.
        let _ = self.path.parent().map(fs::remove_dir);
        Ok(())
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Records what the VM is, for a later daemon.
    pub(crate) fn describe(&self, vm: &Description) -> io::Result<()> {
        fs::write(self.path.join(ABOUT), serde_json::to_vec(vm)?)
    }

    /// The properties of the VM.
    pub(crate) fn description(&self) -> io::Result<Description> {
        Ok(serde_json::from_slice(&fs::read(self.path.join(ABOUT))?)?)
    }

    /// Marks the guest as one that has not run since it was restored.
    pub(crate) fn mark_unstarted(&self) -> io::Result<()> {
        fs::write(self.path.join(WAITS), "")
    }

    /// Removes the mark of [`Self::mark_unstarted`]. Call it before the guest runs.
    pub(crate) fn clear_unstarted(&self) -> io::Result<()> {
        ok_if_absent(fs::remove_file(self.path.join(WAITS)))
    }

    pub(crate) fn is_unstarted(&self) -> bool {
        self.path.join(WAITS).exists()
    }

    /// Records where a snapshot is being written: it has to be invalidated before
    /// the guest is resumed.
    pub(crate) fn begin_save(&self, snapshot: &Utf8Path) -> io::Result<()> {
        let temp = self.path.join(".saving.tmp");
        fs::write(&temp, snapshot.as_str())?;
        fs::rename(temp, self.path.join(SAVING))
    }

    pub(crate) fn end_save(&self) -> io::Result<()> {
        ok_if_absent(fs::remove_file(self.path.join(SAVING)))
    }

    pub(crate) fn saving(&self) -> Option<Utf8PathBuf> {
        fs::read_to_string(self.path.join(SAVING)).ok().map(Utf8PathBuf::from)
    }

    /// A handle on the VM's process, if it runs.
    pub(crate) fn process(&self) -> Option<(u32, OwnedFd)> {
        let text = fs::read_to_string(self.path.join(PID)).ok()?;
        let identity = Identity::from_line(&text)?;
        Some((identity.pid, identity.open(&self.boot.to_string())?))
    }

    /// A listening socket in the directory. The path goes through a descriptor,
    /// for socket addresses end after 107 bytes and data directories do not.
    pub(crate) fn listen(&self, socket: &str) -> io::Result<UnixListener> {
        let dir = self.handle()?;
        UnixListener::bind(format!("/proc/self/fd/{}/{socket}", dir.as_raw_fd()))
    }

    /// A connection to a socket in the directory. Blocks only while another
    /// connection is served and the backlog is full.
    pub(crate) fn connect(&self, socket: &str) -> io::Result<tokio::net::UnixStream> {
        let dir = self.handle()?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{socket}", dir.as_raw_fd()))?;
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    }

    fn handle(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.path.as_std_path(), flags, Mode::empty())?)
    }
}

/// Records the calling process as the one of the boot directory `dir`. Whole or
/// absent also after `kill -9`; no need to survive a power cut, which ends the
/// process as well.
pub(crate) fn write_pid(dir: &Utf8Path) -> io::Result<()> {
    let temp = dir.join(".pid.tmp");
    fs::write(&temp, Identity::current()?.to_line())?;
    fs::rename(temp, dir.join(PID))
}

/// Every boot directory below `run_dir`.
pub(crate) fn all(run_dir: &Utf8Path) -> io::Result<Vec<BootDir>> {
    let mut found = Vec::new();
    for machine in parsed_entries::<MachineId>(run_dir)? {
        for boot in parsed_entries::<BootId>(&run_dir.join(machine.to_string()))? {
            found.push(BootDir::new(run_dir, machine, boot));
        }
    }
    Ok(found)
}

/// `<machine>-<boot>` in parts.
pub(crate) fn parse_name(name: &str) -> Option<(MachineId, BootId)> {
    let (machine, boot) = name.split_once('-')?;
    Some((machine.parse().ok()?, boot.parse().ok()?))
}

fn parsed_entries<T: std::str::FromStr>(dir: &Utf8Path) -> io::Result<Vec<T>> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(found)
}

pub(crate) fn ok_if_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_far_down_can_be_reached() {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = Utf8Path::from_path(temp.path()).unwrap().join("d".repeat(200));
        let dir = BootDir::new(&run_dir, MachineId::from_random(2), BootId::new(3, 4));
        dir.create().unwrap();
        let listener = dir.listen(QMP).unwrap();
        dir.connect(QMP).unwrap();
        listener.accept().unwrap();
        dir.remove().unwrap();
        assert!(!run_dir.join(dir.machine.to_string()).exists());
    }

    #[test]
    fn boots_are_found_by_their_directories() {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = Utf8Path::from_path(temp.path()).unwrap();
        let dir = BootDir::new(run_dir, MachineId::from_random(2), BootId::new(3, 4));
        dir.create().unwrap();
        fs::create_dir(run_dir.join("other")).unwrap();
        let found = all(run_dir).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, dir.path);
        assert_eq!(parse_name(&dir.name()), Some((dir.machine, dir.boot)));
        assert!(dir.process().is_none());
    }
}
