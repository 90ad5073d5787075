//! The command that a machine config asks to be run after a resume.

use super::program::SpawnError;
use super::spawn::{self, Launch, Started};
use crate::agent::log_queue::LogQueue;
use crate::container::space::Space;
use crate::process::signals::{self, Ended};
use crate::process::stream::{self, ReadResult};
use crate::process::users;
use guest_protocol::{LogSource, Main};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long it may run.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long output is awaited after its exit, if a grandchild holds the pipe.
const LINGER: Duration = Duration::from_millis(300);

/// A hook, from its start until its exit and all of its output are logged.
pub(crate) struct ResumeHook {
    pid: i32,
    outputs: Vec<OwnedFd>,
    ended: Option<Ended>,
    /// When it is killed or, after its exit, reading its output is given up.
    until: Instant,
}

impl ResumeHook {
    /// Starts it with user, environment and directory of the main process; in a container
    /// if there is a `space`.
    pub(crate) fn start(
        argv: &[String],
        main: &Main,
        space: Option<&Space>,
    ) -> Result<Self, SpawnError> {
        let start = || {
            let identity = users::lookup(&main.user)?;
            let env = spawn::environment(&main.env, &[], &identity, false);
            spawn::start(&Launch {
                what: "resume hook",
                argv,
                env: &env,
                identity: &identity,
                workdir: &main.workdir,
                tty: None,
                input: false,
                output: true,
            })
        };
        let Started { pid, stdout, stderr, .. } = match space {
            Some(space) => space.enter(start)?,
            None => start()?,
        };
        let outputs = [stdout, stderr].into_iter().flatten().collect();
        Ok(Self { pid, outputs, ended: None, until: Instant::now() + TIMEOUT })
    }

    /// Records that a child has ended; false if it is not this one.
    pub(crate) fn child_ended(&mut self, pid: i32, ended: Ended) -> bool {
        if pid != self.pid || self.ended.is_some() {
            return false;
        }
        self.ended = Some(ended);
        self.until = Instant::now() + LINGER;
        true
    }

    /// The streams to poll.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.outputs.iter().map(AsFd::as_fd)
    }

    /// Logs its output as messages of init.
    pub(crate) fn read(&mut self, buffer: &mut [u8], logs: &mut LogQueue) {
        self.outputs.retain(|output| match stream::read(output, buffer) {
            ReadResult::Bytes(n) => {
                logs.push(LogSource::Init, &buffer[..n]);
                true
            }
            ReadResult::WouldBlock => true,
            ReadResult::Eof => false,
        });
    }

    /// When [`ResumeHook::tick`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        self.until
    }

    /// Does what is due. Returns a result once the hook is over: a line to log, or
    /// nothing if it succeeded.
    pub(crate) fn tick(&mut self) -> Option<Option<String>> {
        let due = self.until <= Instant::now();
        match self.ended {
            None if due => {
                self.kill();
                Some(Some(format!("Resume hook killed after {} s", TIMEOUT.as_secs())))
            }
            Some(ended) if due || self.outputs.is_empty() => {
                Some((ended.code != 0).then(|| match ended.signal {
                    0 => format!("Resume hook exited with code: {}", ended.code),
                    signal => format!("Resume hook exited with signal {}", signals::name(signal)),
                }))
            }
            _ => None,
        }
    }

    /// Kills its process group.
    pub(crate) fn kill(&self) {
        if self.ended.is_none() {
            signals::send(-self.pid, libc::SIGKILL);
        }
    }
}
