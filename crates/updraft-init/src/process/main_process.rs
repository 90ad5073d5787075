//! The main process of a guest or of one of its units: its start, its output, its exit.

use crate::agent::log_queue::{Channel, LogQueue};
use crate::process::exec::Stream;
use crate::process::signals::{self, Ended};
use crate::process::spawn::{self, Launch};
use crate::process::stream::{self, ReadResult};
use crate::process::users;
use guest_protocol::{Exit, LogSource, Main, TermSize, UnitId};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long output is awaited after the exit. Every process that belongs to it is killed
/// then, so only the reading takes time.
const DRAIN: Duration = Duration::from_millis(500);
/// Size of a terminal without a viewer.
const TERMINAL: TermSize = TermSize { rows: 24, cols: 80 };

/// The main process, from its start until its exit is reported.
pub(crate) struct MainProcess {
    unit: Option<UnitId>,
    pid: i32,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    ended: Option<Ended>,
    drain_until: Option<Instant>,
    kill_at: Option<Instant>,
    /// Init sent SIGKILL, so the OOM killer did not.
    killed: bool,
    /// The kernel's count of OOM kills at the start.
    oom_kills: u64,
}

impl MainProcess {
    /// Starts it, after `oom_kills` OOM kills, with the users and files that the calling
    /// thread sees. Makes the working directory if it is absent. `lines` are for the log.
    pub(crate) fn start(
        main: &Main,
        unit: Option<UnitId>,
        oom_kills: u64,
        lines: &mut Vec<String>,
    ) -> Result<Self, String> {
        let identity = users::lookup(&main.user)?;
        std::fs::create_dir_all(&main.workdir)
            .map_err(|err| format!("cannot make working directory `{}`: {err}", main.workdir))?;
        let env = spawn::environment(&main.env, &[], &identity, main.tty);
        lines.push(format!("Preparing to run: `{}` as {}", main.argv.join(" "), identity.name));
        let started = spawn::start(&Launch {
            what: "entrypoint",
            argv: &main.argv,
            env: &env,
            identity: &identity,
            workdir: &main.workdir,
            tty: main.tty.then_some(TERMINAL),
            input: false,
            output: true,
        })
        .map_err(|err| err.text)?;
        Ok(Self {
            unit,
            pid: started.pid,
            stdout: started.stdout,
            stderr: started.stderr,
            ended: None,
            drain_until: None,
            kill_at: None,
            killed: false,
            oom_kills,
        })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Signals this process only.
    pub(crate) fn signal(&mut self, signal: i32) {
        if self.ended.is_none() {
            self.killed |= signal == libc::SIGKILL;
            signals::send(self.pid, signal);
        }
    }

    /// Signals it, and kills it after `timeout`. A second stop replaces the timeout.
    pub(crate) fn stop(&mut self, signal: i32, timeout: Duration) {
        self.signal(signal);
        self.kill_at = Instant::now().checked_add(timeout);
    }

    /// Records that a child has ended; false if it is not this one.
    pub(crate) fn child_ended(&mut self, pid: i32, ended: Ended) -> bool {
        if pid != self.pid || self.ended.is_some() {
            return false;
        }
        self.ended = Some(ended);
        self.kill_at = None;
        self.drain_until = Some(Instant::now() + DRAIN);
        true
    }

    /// Whether it has ended; its output may not be complete.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The streams to poll.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        let streams = [(Stream::Out, &self.stdout), (Stream::Err, &self.stderr)];
        streams.into_iter().filter_map(|(which, fd)| Some((which, fd.as_ref()?.as_fd())))
    }

    /// Reads one chunk into the log, which keeps or drops it: the app never waits for
    /// a slow host.
    pub(crate) fn read(&mut self, which: Stream, buffer: &mut [u8], logs: &mut LogQueue) {
        let (slot, source) = match which {
            Stream::Err => (&mut self.stderr, LogSource::Stderr),
            Stream::In | Stream::Out => (&mut self.stdout, LogSource::Stdout),
        };
        let Some(fd) = slot else { return };
        match stream::read(fd, buffer) {
            ReadResult::Bytes(n) => logs.push(Channel { source, unit: self.unit }, &buffer[..n]),
            ReadResult::WouldBlock => {}
            ReadResult::Eof => *slot = None,
        }
    }

    /// When [`MainProcess::tick`] is due.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.kill_at.or(self.drain_until)
    }

    /// Does what is due. Returns its exit once its output is complete.
    pub(crate) fn tick(&mut self) -> Option<(Ended, Exit)> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.signal(libc::SIGKILL);
        }
        let ended = self.ended?;
        let drained = self.stdout.is_none() && self.stderr.is_none();
        if !drained && self.drain_until.is_some_and(|until| now < until) {
            return None;
        }
        // A shell whose child was killed exits with 137.
        let by_kill = ended.signal == libc::SIGKILL || ended.code == 128 + libc::SIGKILL;
        let oom = by_kill && !self.killed && oom_kills() > self.oom_kills;
        Some((ended, Exit { code: ended.code, signal: ended.signal, oom }))
    }
}

/// The log line for its exit, as users of Fly Machines know it.
pub(crate) fn exit_line(ended: Ended) -> String {
    if ended.signal == 0 {
        return format!("Main child exited normally with code: {}", ended.code);
    }
    let name = signals::name(ended.signal);
    format!("Main child exited with signal (with signal '{name}', core dumped? {})", ended.core)
}

/// Processes that the OOM killer has killed since boot.
pub(crate) fn oom_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_logged_as_users_know_it() {
        let ended = |code, signal| exit_line(Ended { code, signal, core: false });
        assert_eq!(ended(3, 0), "Main child exited normally with code: 3");
        let want = "Main child exited with signal (with signal 'SIGTERM', core dumped? false)";
        assert_eq!(ended(143, 15), want);
    }
}
