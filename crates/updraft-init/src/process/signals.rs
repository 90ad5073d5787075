//! Signals: SIGCHLD as a descriptor to poll, all others blocked; signals to other
//! processes; and the names of signals.

use crate::system::clock::last_errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks every signal in this thread and those it starts, and ignores SIGPIPE. The
/// kernel delivers to pid 1 only signals for which it has a handler.
pub(crate) fn block_all() {
    // SAFETY: plain calls on a mask of our own; SIG_IGN is a valid disposition.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// A descriptor that is readable when a child has changed state.
pub(crate) fn child_events() -> rustix::io::Result<OwnedFd> {
    // SAFETY: the mask is ours; a non-negative result is a fresh descriptor.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Sends `signal` to a process (or, negative, to a process group). An invalid signal
/// or a process that has ended is ignored.
pub(crate) fn send(pid: i32, signal: i32) {
    // kill(0) and kill(-1) signal many processes: see `kill_everything`.
    if pid == 0 || pid == -1 {
        return;
    }
    // SAFETY: kill takes any numbers.
    unsafe { libc::kill(pid, signal) };
}

/// Kills every process but init.
pub(crate) fn kill_everything() {
    // SAFETY: from pid 1, -1 is every process but itself.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code, or 128 + signal.
    pub(crate) code: i32,
    /// The signal that ended it, or 0.
    pub(crate) signal: i32,
    /// It dumped core.
    pub(crate) core: bool,
}

/// Reaps one ended child, if there is one.
pub(crate) fn reap() -> Option<(i32, Ended)> {
    let mut status = 0;
    // SAFETY: `status` is ours.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| {
        let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
        let code = if signal == 0 { libc::WEXITSTATUS(status) } else { 128 + signal };
        (pid, Ended { code, signal, core: signal != 0 && libc::WCOREDUMP(status) })
    })
}

/// `SIGTERM` for 15.
pub(crate) fn name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let known = usize::try_from(signal - 1).ok().and_then(|i| NAMES.get(i));
    known.map_or_else(|| format!("SIG{signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_those_of_the_manual() {
        let names = [1, 9, 11, 15, 31, 34, 0].map(super::name);
        assert_eq!(names, ["SIGHUP", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGSYS", "SIG34", "SIG0"]);
    }
}
