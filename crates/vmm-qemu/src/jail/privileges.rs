//! Dropping user, groups, capabilities and resources that a VM must not have.

use crate::jail::spec::{Attempt, Problem, Spec};
use camino::Utf8Path;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Takes a user id that no other VM of this host has, and the lock that keeps
/// it: it is free again when the last process that holds the lock has ended.
///
/// The lock decides among launchers. It does not bind a compromised QEMU, which holds
/// it and can let go of it while it runs on: so an id that a process has is not taken
/// either.
pub(super) fn take_uid(locks: &Utf8Path, base: u32, count: u32) -> Result<(u32, OwnedFd), Problem> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(locks);
    made.attempt(format_args!("make {locks}"))?;
    for id in (base..).take(count as usize) {
        let path = locks.join(id.to_string());
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(path.as_std_path(), flags, Mode::RUSR);
        let file = file.attempt(format_args!("open {path}"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Looked at only now: no other launcher starts to use it any more.
            Ok(()) if !is_used(id).attempt("look at the host's processes")? => {
                return Ok((id, file));
            }
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(err) => return Err(err).attempt(format_args!("lock {path}")),
        }
    }
    Err(Problem(format!("all {count} user ids for VMs are taken")))
}

/// Whether a process has this user id. Its directory in `/proc` belongs to its
/// effective one, whatever the process hides of itself; one of ours has no
/// other, and no way to another.
fn is_used(id: u32) -> io::Result<bool> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let is_process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        // A process that has ended meanwhile uses nothing.
        let used = is_process && entry.metadata().is_ok_and(|found| found.uid() == id);
        if used && !has_ended(&entry.path()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Nothing of the process is left but what its parent has not fetched yet. Its
/// first thread alone proves nothing: others may run on.
fn has_ended(process: &Path) -> bool {
    let Ok(status) = fs::read_to_string(process.join("status")) else { return true };
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    is_zombie && fs::read_dir(process.join("task")).map_or(0, Iterator::count) <= 1
}

/// Limits that hold regardless of the cgroups.
pub(super) fn limit(spec: &Spec) -> Result<(), Problem> {
    let limits = [
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Nofile, 512),
        (Resource::Nproc, spec.threads),
        // Of all that the VM can reach only the scratch image, its log and the file of
        // its memory are writable. The first two do not grow. A snapshot is mapped
        // privately, but its file can be grown up to this limit, outside of what is
        // booked, until the VM ends: QEMU before 8.2 opens the file of a guest's memory
        // for writing (`rom=off` came then).
        (Resource::Fsize, spec.file_size),
    ];
    for (resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).attempt("set a resource limit")?;
    }
    Ok(())
}

/// Becomes user and group `id` for good, with no other group but `kvm_group`
/// and no capability, now or by starting any program.
pub(super) fn drop_all(id: u32, kvm_group: Option<u32>) -> Result<(), Problem> {
    rustix::thread::set_no_new_privs(true).attempt("give up new privileges")?;
    drop_bounding_set().attempt("give up capabilities")?;
    let groups: Vec<_> = kvm_group.into_iter().map(rustix::fs::Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).attempt("leave all groups")?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
    rustix::thread::set_thread_res_gid(gid, gid, gid).attempt("change group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).attempt("change user")?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).attempt("give up capabilities")?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: plain system call without pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            let err = io::Error::last_os_error();
            // The kernel knows no more capabilities than that.
            let end = capability > 0 && err.raw_os_error() == Some(libc::EINVAL);
            return if end { Ok(()) } else { Err(err) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_vms_never_share_a_user_id() {
        let temp = tempfile::tempdir().unwrap();
        let locks = Utf8Path::from_path(temp.path()).unwrap();
        let take = || take_uid(locks, 1000, 2).map_err(|p| p.0);
        let (first, held) = take().unwrap();
        let (second, _also_held) = take().unwrap();
        assert_eq!((first, second), (1000, 1001));
        assert!(take().unwrap_err().contains("all 2 user ids"));
        drop(held);
        assert_eq!(take().unwrap().0, 1000);
    }

    #[test]
    fn a_user_id_is_not_free_while_a_process_has_it() {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        use std::os::unix::process::CommandExt;
        use testkit::skip::{Lacks, skip};
        if !rustix::process::geteuid().is_root() {
            return skip("starting a process of another user needs root", Lacks::Required);
        }
        let temp = tempfile::tempdir().unwrap();
        let locks = Utf8Path::from_path(temp.path()).unwrap();
        let base = 0x6000_0000 + 2 * std::process::id();
        let taken = || take_uid(locks, base, 2).map_err(|p| p.0).unwrap().0;
        let mut other = std::process::Command::new("sleep").arg("600").uid(base).spawn().unwrap();
        assert_eq!(taken(), base + 1, "held by no lock");
        other.kill().unwrap();
        let pid = WaitId::Pid(Pid::from_child(&other));
        waitid(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(taken(), base, "a zombie uses nothing");
        other.wait().unwrap();
    }
}
