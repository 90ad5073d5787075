//! Processes that may not be our children, identified by pid and start time, and
//! handles (pidfds) on them.

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process for as long as the host is up: numbers are used again, but not
/// with the same start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks since the host's start.
    pub(crate) started: u64,
}

impl Identity {
    /// The calling process, by the number that it has on the host: its own
    /// namespace may call it otherwise, `/proc` is the host's.
    pub(crate) fn current() -> io::Result<Self> {
        let own = fs::read_link("/proc/self")?;
        let pid = own.to_str().and_then(|name| name.parse().ok());
        let pid = pid.ok_or_else(|| io::Error::other("/proc/self names no process"))?;
        let stat = stat(pid)?;
        Ok(Self { pid, started: stat.started })
    }

    /// `PID START\n`.
    pub(crate) fn to_line(self) -> String {
        format!("{} {}\n", self.pid, self.started)
    }

    pub(crate) fn from_line(text: &str) -> Option<Self> {
        let (pid, started) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// A handle on the process if it still runs and `needle` is in its command
    /// line. The handle is taken before the check, so it is of the process that
    /// was checked.
    pub(crate) fn open(self, needle: &str) -> Option<OwnedFd> {
        let handle = open(self.pid).ok()?;
        let stat = stat(self.pid).ok()?;
        if stat.started != self.started || stat.ended {
            return None;
        }
        let command = fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        let found = command.windows(needle.len()).any(|w| w == needle.as_bytes());
        found.then_some(handle)
    }
}

/// The parent of the calling process, by its number on the host.
pub(crate) fn parent() -> io::Result<u32> {
    Ok(stat(Identity::current()?.pid)?.parent)
}

struct Stat {
    parent: u32,
    started: u64,
    ended: bool,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is malformed")))
}

/// See proc_pid_stat(5): the name in brackets may hold anything, so fields are
/// counted from the last bracket; the first after it is the state (3), the
/// parent is 4, the start time is 22.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.trim_end().parse().ok()?;
    Some(Stat { parent, started, ended })
}

/// A handle on the process of this number.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = raw.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Handles on the processes that `list` names; `None` if it names none. It is asked
/// again once they are open: only then a number is known to be of the process that
/// has the handle, and not of one that was started since the first answer.
pub(crate) fn members(list: impl Fn() -> Vec<u32>) -> Option<Vec<OwnedFd>> {
    let pids = list();
    if pids.is_empty() {
        return None;
    }
    let handles: Vec<_> = pids.into_iter().filter_map(|pid| Some((pid, open(pid).ok()?))).collect();
    let still = list();
    Some(handles.into_iter().filter(|(pid, _)| still.contains(pid)).map(|(_, fd)| fd).collect())
}

/// Bytes of the host's memory that a process holds; pages that it shares count by
/// their share (PSS).
pub(crate) fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// CPU time of a process and all its threads, those that have ended included, in steps of
/// 10 ms: the unit of proc_pid_stat(5) on x86-64.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Ends a process at once; one that has ended already is fine.
pub(crate) fn kill(handle: &OwnedFd) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// Waits until a process has ended; it need not be a child.
pub(crate) async fn ended(handle: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` names one open descriptor, always the same, until it
    // is dropped together with the registration.
    let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?;
    handle.readable().await.map(drop)
}

/// Ends a process, waits until it is gone and reaps it if it is our child.
pub(crate) async fn kill_and_wait(handle: &OwnedFd, patience: Duration) -> io::Result<()> {
    kill(handle)?;
    let gone = tokio::time::timeout(patience, ended(handle.try_clone()?)).await;
    gone.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    reap(handle);
    Ok(())
}

/// Takes the status of a child that has ended: the signal that ended it, or 0.
/// `None` if it is not our child.
pub(crate) fn reap(handle: &OwnedFd) -> Option<i32> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(handle.as_fd()), options).ok()??;
    Some(status.terminating_signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let me = Identity::current().unwrap();
        assert_eq!(Identity::from_line(&me.to_line()), Some(me));
        let name = std::env::args().next().unwrap();
        assert!(me.open(&name).is_some());
        assert!(me.open("not in my command line 7361").is_none());
        assert!(Identity { started: me.started + 1, ..me }.open(&name).is_none());
    }

    #[test]
    fn a_number_that_has_left_its_group_names_no_member() {
        let me = Identity::current().unwrap().pid;
        let answers = |answers: &[&[u32]]| {
            let left = std::cell::RefCell::new(answers.iter().rev().copied().collect::<Vec<_>>());
            members(|| left.borrow_mut().pop().unwrap().to_vec()).map(|handles| handles.len())
        };
        assert_eq!(answers(&[&[me], &[me]]), Some(1));
        assert_eq!(answers(&[&[me], &[]]), Some(0), "another process has the number by now");
        assert_eq!(answers(&[&[]]), None);
    }

    #[test]
    fn half_written_pid_files_are_no_identity() {
        for text in ["", "12", "12 ", "12 34", "a b\n", "-1 5\n"] {
            assert_eq!(Identity::from_line(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_name_full_of_brackets_does_not_confuse() {
        let tail = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0\n";
        assert_eq!(parse_stat(&format!("1 (a) Z 1 (b) {tail}")).unwrap().started, 777);
    }
}
