//! The launcher process: enters the jail, then becomes QEMU.
//!
//! It is a process of its own with one thread, since identities, namespaces and
//! roots are changed for good. What to do comes as one message over a socket at
//! its standard input, together with the descriptors that QEMU will hold.
//!
//! Order matters: first it can be found (pid file), then it is locked in, and only
//! then is anything of the guest's touched. It is born as the first process of
//! its own namespace. The daemon puts it into its cgroups meanwhile, which takes
//! the kernel longer than all of this, and lets the guest run only after that.

use crate::jail::message;
use crate::jail::privileges;
use crate::jail::root;
use crate::jail::seccomp;
use crate::jail::spec::{Attempt, Fd, Problem};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// First argument of the launcher, hidden from users.
pub const SUBCOMMAND: &str = "__jail";

/// When the host runs out of memory, VMs are killed before what runs on it otherwise;
/// see proc_pid_oom_score_adj(5).
const VM_OOM_SCORE_ADJ: &str = "300";

/// Host-wide: a VM holds a lock on the file of its user id, whichever daemon
/// started it, so no two of a host ever share one.
const UID_LOCKS: &str = "/run/updraft/uids";

/// Runs the launcher; `args` are those after [`SUBCOMMAND`]. Does not return:
/// it becomes QEMU or ends with a message in the VM's log.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ! {
    let problem = match run(args) {
        Ok(never) => match never {},
        Err(problem) => problem,
    };
    eprintln!("cannot start the VM: {}", problem.0);
    std::process::exit(1)
}

fn run(args: impl IntoIterator<Item = OsString>) -> Result<std::convert::Infallible, Problem> {
    let mut args = args.into_iter().filter_map(|arg| arg.into_string().ok());
    let (Some(dir), Some(parent)) = (args.next(), args.next()) else {
        return Err(Problem("this is started by updraft itself, not by hand".into()));
    };
    let dir = Utf8PathBuf::from(dir);
    register(&dir, &parent)?;
    let (spec, fds) = message::receive().attempt("read what to start")?;
    // Open until the process ends, for the daemon sees them close: by then the
    // log must have the reason.
    let fds = ManuallyDrop::new(fds);
    let (id, lock) = privileges::take_uid(Utf8Path::new(UID_LOCKS), spec.uid_base, spec.uid_count)?;
    let kvm_group = root::enter(&dir, &spec)?;
    let descriptors = placed(&fds, &lock, &spec.fds)?;
    if spec.own_memory {
        give_memory(&descriptors, id)?;
    }
    let null = fs::File::open("/dev/null").attempt("open /dev/null")?;
    // Away from the numbers that `install` gives away: it may have got one of them.
    let null = duplicate_above(&null)?;
    privileges::limit(&spec)?;
    privileges::drop_all(id, kvm_group)?;
    install(descriptors, &null)?;
    seccomp::restrict()?;
    let err = Command::new(&spec.program).args(&spec.args).env_clear().exec();
    Err(err).attempt(format_args!("start {}", spec.program))
}

/// Registers this process in its boot directory. Until then it ends with the daemon:
/// a process that no daemon can find must not run.
fn register(dir: &Utf8Path, parent: &str) -> Result<(), Problem> {
    rustix::process::setsid().attempt("begin a session")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .attempt("follow the parent")?;
    // By the host's numbers: to its own namespace the parent is outside.
    let now = crate::process::pidfd::parent().attempt("find the parent")?;
    if now.to_string() != parent {
        return Err(Problem("the daemon has ended".into()));
    }
    fs::write("/proc/self/oom_score_adj", VM_OOM_SCORE_ADJ).attempt("set the OOM score")?;
    crate::process::boot_dir::write_pid(dir).attempt("write the pid file")?;
    rustix::process::set_parent_process_death_signal(None).attempt("leave the parent")
}

/// Pairs the descriptors with their final numbers, moved out of the way of them.
fn placed(fds: &[OwnedFd], lock: &OwnedFd, targets: &[Fd]) -> Result<Vec<(OwnedFd, Fd)>, Problem> {
    if fds.len() != targets.len() {
        let (came, wanted) = (fds.len(), targets.len());
        return Err(Problem(format!("{came} descriptors came instead of {wanted}")));
    }
    let pairs = fds.iter().zip(targets.iter().copied()).chain([(lock, Fd::UidLock)]);
    let moved = pairs.map(|(fd, target)| Ok((duplicate_above(fd)?, target)));
    moved.collect()
}

/// A duplicate with a number above those of [`Fd`].
fn duplicate_above(fd: impl AsFd) -> Result<OwnedFd, Problem> {
    rustix::io::fcntl_dupfd_cloexec(fd, 64).attempt("move a descriptor")
}

/// QEMU opens the memory once more, by name, which takes the right to.
fn give_memory(descriptors: &[(OwnedFd, Fd)], id: u32) -> Result<(), Problem> {
    let memory = descriptors.iter().find(|(_, target)| *target == Fd::Ram);
    let (memory, _) = memory.ok_or_else(|| Problem("no memory came".into()))?;
    let owner = Some(rustix::fs::Uid::from_raw(id));
    rustix::fs::fchown(memory, owner, None).attempt("give the memory to the VM's user")
}

/// Gives the descriptors their final numbers; all others close at `exec`.
fn install(descriptors: Vec<(OwnedFd, Fd)>, null: &OwnedFd) -> Result<(), Problem> {
    // First of all, so that what is installed below stays open.
    // SAFETY: plain system call without pointers; it only marks descriptors.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        return Err(io::Error::last_os_error()).attempt("close what the VM must not hold");
    }
    let pairs = descriptors.iter().map(|(fd, target)| (fd.as_raw_fd(), target.number()));
    for (from, to) in pairs.chain([(null.as_raw_fd(), 0)]) {
        // SAFETY: plain system call; nothing in this process owns the numbers
        // of `Fd` any more than by number, and it ends or becomes QEMU next.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(io::Error::last_os_error()).attempt("place a descriptor");
        }
    }
    Ok(())
}
