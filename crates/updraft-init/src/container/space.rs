//! The namespaces of one run of a container: mounts with its root file system, and
//! process ids.
//!
//! A holder is the first process of the process id namespace, so that the kernel ends
//! every process of the container with it. It does nothing but adopt orphans, which the
//! kernel reaps since it ignores SIGCHLD. The container's own processes are children of
//! init in that namespace (setns(2)): their exits and signals are as without a container.

use super::thread::{on_own_thread, unshare};
use crate::boot::mounts::FLY;
use crate::process::signals;
use crate::system::clock::last_errno;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::pipe::PipeFlags;
use std::os::fd::{AsRawFd, OwnedFd};

/// Stack of the holder.
const STACK: usize = 16 * 1024;

/// The namespaces of one run. Dropping it ends every process in them.
pub(crate) struct Space {
    /// Until it has been reaped.
    holder: Option<i32>,
    mounts: OwnedFd,
    pids: OwnedFd,
}

/// A directory of the guest's own root that the container sees as well.
pub(crate) struct Bind {
    pub(crate) source: String,
    pub(crate) target: String,
}

impl Space {
    /// Makes namespaces whose root is the file system at `root`.
    pub(crate) fn make(root: &str, binds: &[Bind]) -> Result<Self, String> {
        let holder = on_own_thread(|| set_up(root, binds))?;
        // The OOM killer is to end the container's processes, not the holder first.
        let _ = std::fs::write(format!("/proc/{holder}/oom_score_adj"), "-1000");
        let open = |kind: &str| {
            let path = format!("/proc/{holder}/ns/{kind}");
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|err| format!("cannot open {path}: {err}"))
        };
        match (open("mnt"), open("pid")) {
            (Ok(mounts), Ok(pids)) => Ok(Self { holder: Some(holder), mounts, pids }),
            (Err(err), _) | (_, Err(err)) => {
                signals::send(holder, libc::SIGKILL);
                Err(err)
            }
        }
    }

    /// Runs `work` on a thread in these namespaces: it sees the container's files, and
    /// processes that it starts are the container's.
    pub(crate) fn enter<T: Send, E: From<String> + Send>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        on_own_thread(|| {
            unshare(libc::CLONE_FS)?;
            for (namespace, kind) in
                [(&self.mounts, libc::CLONE_NEWNS), (&self.pids, libc::CLONE_NEWPID)]
            {
                // SAFETY: plain system call on a descriptor that outlives it.
                if unsafe { libc::setns(namespace.as_raw_fd(), kind) } < 0 {
                    return Err(format!("cannot enter the container: {}", last_errno()).into());
                }
            }
            work()
        })
    }

    /// Records that a child has ended; true if it is the holder.
    pub(crate) fn child_ended(&mut self, pid: i32) -> bool {
        let own = self.holder == Some(pid);
        if own {
            self.holder = None;
        }
        own
    }

    /// Ends every process of the container.
    pub(crate) fn end(&self) {
        if let Some(holder) = self.holder {
            signals::send(holder, libc::SIGKILL);
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the namespaces around the calling thread; returns the pid of the holder.
fn set_up(root: &str, binds: &[Bind]) -> Result<i32, String> {
    let cannot = |what: &str, err: Errno| format!("cannot {what}: {err}");
    let kernel = [("/sys", true), ("/dev", true), (FLY, false)];
    unshare(libc::CLONE_NEWNS)?;
    let mut trees = Vec::new();
    for (path, recursive) in kernel {
        trees.push((path, clone_tree(path, recursive).map_err(|err| cannot(path, err))?));
    }
    for Bind { source, target } in binds {
        trees
            .push((target.as_str(), clone_tree(source, false).map_err(|err| cannot(source, err))?));
    }
    let pivot = || {
        rustix::process::chdir(root)?;
        // Both the same: the old root ends up on top, and is unmounted from there; see
        // pivot_root(2).
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")
    };
    pivot().map_err(|err| cannot("switch to the container's root", err))?;
    for (path, tree) in trees {
        attach(&tree, path).map_err(|err| format!("cannot mount {path}: {err}"))?;
    }
    let _ = std::fs::create_dir("/proc");
    unshare(libc::CLONE_NEWPID)?;
    start_holder().map_err(|err| cannot("start the container's first process", err))
}

/// A copy of the mount at `path`, attached nowhere yet.
fn clone_tree(path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, path, flags)
}

/// Attaches a tree at a directory, which is made if it is absent.
fn attach(tree: &OwnedFd, at: &str) -> std::io::Result<()> {
    if !std::path::Path::new(at).is_dir() {
        std::fs::create_dir_all(at)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(rustix::mount::move_mount(tree, "", CWD, at, flags)?)
}

/// Starts the first process of the namespace, as a copy of this one that mounts `/proc`,
/// closes everything and waits. Returns its pid once `/proc` is mounted.
fn start_holder() -> rustix::io::Result<i32> {
    let (mounted, report) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    // SAFETY: without CLONE_VM the child has a copy of all memory, its stack included, and
    // calls nothing but async-signal-safe functions. The descriptor is its argument.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        let argument = std::ptr::without_provenance_mut(report.as_raw_fd() as usize);
        libc::clone(hold, top, libc::SIGCHLD, argument)
    };
    if pid < 0 {
        return Err(last_errno());
    }
    drop(report);
    let mut error = [0; 4];
    // Nothing comes from a child that has ended before it could report.
    match rustix::io::retry_on_intr(|| rustix::io::read(&mounted, &mut error)) {
        Ok(4) if error == [0; 4] => Ok(pid),
        read => {
            signals::send(pid, libc::SIGKILL);
            let code = i32::from_ne_bytes(error);
            Err(if read == Ok(4) { Errno::from_raw_os_error(code) } else { Errno::IO })
        }
    }
}

/// The holder. Only a process of the namespace can mount its `/proc`.
extern "C" fn hold(report: *mut libc::c_void) -> libc::c_int {
    // SAFETY: plain system calls on constants and the stack. Init's descriptors must not stay
    // open here: the end of a pipe would never be seen.
    unsafe {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let (proc, at) = (c"proc".as_ptr(), c"/proc".as_ptr());
        let done = libc::mount(proc, at, proc, flags, std::ptr::null());
        let error: libc::c_int = if done < 0 { *libc::__errno_location() } else { 0 };
        libc::write(report.addr() as libc::c_int, (&raw const error).cast(), size_of_val(&error));
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        libc::setsid();
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}
