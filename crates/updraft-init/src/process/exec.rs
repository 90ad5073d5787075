//! Execs: commands beside the main process, their streams under credit.

use super::program::SpawnError;
use super::spawn::{self, Launch, Started};
use crate::agent::outbox::Outbox;
use crate::container::space::Space;
use crate::process::signals::{self, Ended};
use crate::process::stream::{self, Input, ReadResult};
use crate::process::users;
use guest_protocol::{Exec, ExecId, Exit, MAX_CHUNK, Main, Output, TermSize, ToHost, WINDOW};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most commands at a time.
const MAX_RUNNING: usize = 64;
/// How long output is awaited after the exit, if a grandchild holds the pipe.
const LINGER: Duration = Duration::from_millis(300);

/// One of a process's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Its input.
    In,
    /// Its output.
    Out,
    /// Its standard error.
    Err,
}

/// A command that has been started and not yet reported as ended.
struct Running {
    pid: i32,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    tty: bool,
    input: Input,
    /// Bytes that the host can still take.
    credit: u32,
    kill_at: Option<Instant>,
    ended: Option<Ended>,
    /// When reading output is given up; set at the exit.
    give_up: Option<Instant>,
}

impl Running {
    /// Signals the process group. Not once the command has been reaped: another group
    /// may have its number since.
    fn signal(&self, signal: i32) {
        if self.ended.is_none() {
            signals::send(-self.pid, signal);
        }
    }

    fn output(&mut self, which: Stream) -> &mut Option<OwnedFd> {
        if which == Stream::Err { &mut self.stderr } else { &mut self.stdout }
    }

    /// Reads one chunk, as far as the host can take it.
    fn read(&mut self, id: ExecId, which: Stream, buffer: &mut [u8], outbox: &mut Outbox) {
        let room = (self.credit as usize).min(buffer.len()).min(MAX_CHUNK);
        let Some(fd) = self.output(which) else { return };
        if room == 0 {
            return;
        }
        match stream::read(fd, &mut buffer[..room]) {
            ReadResult::Bytes(n) => {
                let stream = if which == Stream::Err { Output::Stderr } else { Output::Stdout };
                outbox.bulk(ToHost::ExecOutput(id, stream, buffer[..n].to_vec()));
                self.credit -= n as u32;
            }
            ReadResult::WouldBlock => {}
            ReadResult::Eof => *self.output(which) = None,
        }
    }

    /// Passes input on, and returns credit for it.
    fn write(&mut self, id: ExecId, outbox: &mut Outbox) {
        let alive = match &self.stdin {
            Some(stdin) => self.input.write_to(stdin),
            None => {
                self.input.discard();
                true
            }
        };
        if self.input.is_done() && self.tty {
            // A terminal knows the end of input as a character (EOT).
            if let Some(stdin) = &self.stdin {
                let _ = rustix::io::write(stdin, &[4]);
            }
        }
        if !alive || self.input.is_done() {
            self.stdin = None;
        }
        if let Some(credit) = self.input.take_credit() {
            outbox.control(ToHost::ExecCredit(id, credit));
        }
    }
}

/// All commands of the session.
#[derive(Default)]
pub(crate) struct Execs {
    running: HashMap<ExecId, Running>,
}

impl Execs {
    /// Starts a command, by default in the environment and working directory of
    /// `main`; in a container if there is a `space`.
    pub(crate) fn start(
        &mut self,
        id: ExecId,
        exec: &Exec,
        main: &Main,
        space: Option<&Space>,
    ) -> Result<(), SpawnError> {
        if self.running.contains_key(&id) {
            return Err(format!("exec {id} runs already").into());
        }
        if self.running.len() >= MAX_RUNNING {
            return Err(format!("{MAX_RUNNING} commands run in this machine already").into());
        }
        let started = match space {
            Some(space) => space.enter(|| start_command(exec, main))?,
            None => start_command(exec, main)?,
        };
        let running = Running {
            pid: started.pid,
            stdin: started.stdin,
            stdout: started.stdout,
            stderr: started.stderr,
            tty: exec.tty.is_some(),
            input: Input::default(),
            credit: WINDOW,
            kill_at: exec
                .timeout_ms
                .and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms))),
            ended: None,
            give_up: None,
        };
        self.running.insert(id, running);
        Ok(())
    }

    /// Queues input for a command.
    pub(crate) fn input(&mut self, id: ExecId, bytes: &[u8], outbox: &mut Outbox) {
        let Some(exec) = self.running.get_mut(&id) else { return };
        if exec.input.take(bytes) {
            exec.write(id, outbox);
        } else {
            // The host sent more than its credit; memory is bounded, so the command ends.
            exec.signal(libc::SIGKILL);
            exec.input.discard();
        }
    }

    /// The host can take more output.
    pub(crate) fn credit(&mut self, id: ExecId, bytes: u32) {
        if let Some(exec) = self.running.get_mut(&id) {
            exec.credit = exec.credit.saturating_add(bytes);
        }
    }

    /// Changes the size of a command's terminal.
    pub(crate) fn resize(&mut self, id: ExecId, size: TermSize) {
        if let Some(Running { tty: true, stdout: Some(terminal), .. }) = self.running.get(&id) {
            stream::resize(terminal, size);
        }
    }

    /// Signals a command's process group.
    pub(crate) fn signal(&mut self, id: ExecId, signal: i32) {
        if let Some(exec) = self.running.get(&id) {
            exec.signal(signal);
        }
    }

    /// Records that a child has ended; false if it is none of these.
    pub(crate) fn child_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let exec = self.running.values_mut().find(|e| e.pid == pid && e.ended.is_none());
        let Some(exec) = exec else { return false };
        exec.ended = Some(ended);
        exec.kill_at = None;
        exec.stdin = None;
        exec.give_up = Some(Instant::now() + LINGER);
        true
    }

    /// Kills all commands without a report: their session has ended.
    pub(crate) fn clear(&mut self) {
        for exec in self.running.values() {
            exec.signal(libc::SIGKILL);
        }
        self.running.clear();
    }

    /// The streams to poll.
    pub(crate) fn streams(&self, full: bool) -> Vec<(ExecId, Stream, BorrowedFd<'_>)> {
        let mut streams = Vec::new();
        for (&id, exec) in &self.running {
            let readable = exec.credit > 0 && !full;
            let wanted = [
                (Stream::In, &exec.stdin, exec.input.is_waiting()),
                (Stream::Out, &exec.stdout, readable),
                (Stream::Err, &exec.stderr, readable),
            ];
            for (which, fd, wanted) in wanted {
                streams.extend(fd.as_ref().filter(|_| wanted).map(|fd| (id, which, fd.as_fd())));
            }
        }
        streams
    }

    /// Reads or writes a stream that is ready.
    pub(crate) fn ready(
        &mut self,
        id: ExecId,
        which: Stream,
        buffer: &mut [u8],
        outbox: &mut Outbox,
    ) {
        let Some(exec) = self.running.get_mut(&id) else { return };
        match which {
            Stream::In => exec.write(id, outbox),
            Stream::Out | Stream::Err => exec.read(id, which, buffer, outbox),
        }
    }

    /// When [`Execs::tick`] is due.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.running.values().filter_map(|e| e.kill_at.or(e.give_up)).min()
    }

    /// Does what is due, and reports commands whose end and output are complete.
    pub(crate) fn tick(&mut self, outbox: &mut Outbox) {
        let now = Instant::now();
        for exec in self.running.values_mut() {
            if exec.kill_at.is_some_and(|at| at <= now) {
                exec.kill_at = None;
                exec.signal(libc::SIGKILL);
            }
            if exec.give_up.is_some_and(|at| at <= now) {
                if exec.credit == 0 || outbox.bulk_is_full() {
                    // The host does not take the output yet; no grandchild holds it.
                    exec.give_up = Some(now + LINGER);
                } else {
                    exec.stdout = None;
                    exec.stderr = None;
                }
            }
        }
        self.running.retain(|&id, exec| {
            let Some(ended) = exec.ended.filter(|_| exec.stdout.is_none() && exec.stderr.is_none())
            else {
                return true;
            };
            let exit = Exit { code: ended.code, signal: ended.signal, oom: false };
            outbox.bulk(ToHost::ExecExited(id, exit));
            false
        });
    }
}

fn start_command(exec: &Exec, main: &Main) -> Result<Started, SpawnError> {
    let identity = users::lookup(exec.user.as_deref().unwrap_or_default())?;
    let env = spawn::environment(&main.env, &exec.env, &identity, exec.tty.is_some());
    let workdir = exec.workdir.as_deref().filter(|dir| !dir.is_empty());
    spawn::start(&Launch {
        what: "command",
        argv: &exec.argv,
        env: &env,
        identity: &identity,
        workdir: workdir.unwrap_or(&main.workdir),
        tty: exec.tty,
        input: true,
        output: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};

    #[test]
    fn a_group_with_the_number_of_a_command_that_has_ended_is_not_signalled() {
        let mut command = std::process::Command::new("sleep");
        let mut other = command.arg("600").process_group(0).spawn().unwrap();
        let pid = i32::try_from(other.id()).unwrap();
        let mut execs = Execs::default();
        let mut outbox = Outbox::new(1024);
        let ended = |ended| Running {
            pid,
            stdin: None,
            stdout: None,
            stderr: None,
            tty: false,
            input: Input::default(),
            credit: 0,
            kill_at: None,
            ended,
            give_up: None,
        };
        execs.running.insert(1, ended(Some(Ended { code: 0, signal: 0, core: false })));
        execs.signal(1, libc::SIGKILL);
        execs.input(1, &vec![0; 2 * WINDOW as usize], &mut outbox);
        execs.clear();
        // One that has not ended is: had it been before, SIGKILL would have come first.
        execs.running.insert(2, ended(None));
        execs.signal(2, libc::SIGTERM);
        assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
