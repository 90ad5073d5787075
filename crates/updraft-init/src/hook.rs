//! The command that an app asks to be run when it goes on after a suspension.

use crate::outbox::Logs;
use crate::signals::{self, Ended};
use crate::spawn::{self, Launch, Started};
use crate::stream::{self, Got};
use crate::users;
use guest_protocol::{LogSource, Main};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(30);
/// How long output is awaited after its end, if a grandchild holds the pipe.
const LINGER: Duration = Duration::from_millis(300);

/// A hook from its start until its end and all its output are told.
pub(crate) struct Hook {
    pid: i32,
    outputs: Vec<OwnedFd>,
    ended: Option<Ended>,
    /// When it is killed or, after its end, its output given up.
    until: Instant,
}

impl Hook {
    /// Starts it, as the main process was started.
    pub(crate) fn start(argv: &[String], main: &Main) -> Result<Self, String> {
        let identity = users::lookup(&main.user)?;
        let env = spawn::environment(&main.env, &[], &identity, false);
        let Started { pid, stdout, stderr, .. } = spawn::start(&Launch {
            what: "resume hook",
            argv,
            env: &env,
            identity: &identity,
            workdir: &main.workdir,
            tty: None,
            input: false,
        })?;
        let outputs = [stdout, stderr].into_iter().flatten().collect();
        Ok(Self { pid, outputs, ended: None, until: Instant::now() + LONGEST })
    }

    /// A child was reaped; false if it is not this one.
    pub(crate) fn child_ended(&mut self, pid: i32, ended: Ended) -> bool {
        if pid != self.pid || self.ended.is_some() {
            return false;
        }
        self.ended = Some(ended);
        self.until = Instant::now() + LINGER;
        true
    }

    /// What to poll.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.outputs.iter().map(AsFd::as_fd)
    }

    /// Takes what it has said, as words of init's own.
    pub(crate) fn read(&mut self, buffer: &mut [u8], logs: &mut Logs) {
        self.outputs.retain(|output| match stream::read(output, buffer) {
            Got::Bytes(n) => {
                logs.push(LogSource::Init, &buffer[..n]);
                true
            }
            Got::Later => true,
            Got::End => false,
        });
    }

    /// When [`Hook::tick`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        self.until
    }

    /// Does what is due; what there is to say of it once it is over.
    pub(crate) fn tick(&mut self) -> Option<Option<String>> {
        let due = self.until <= Instant::now();
        match self.ended {
            None if due => {
                self.kill();
                Some(Some(format!("Resume hook killed after {} s", LONGEST.as_secs())))
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

    /// Ends it and all of its group.
    pub(crate) fn kill(&self) {
        if self.ended.is_none() {
            signals::send(-self.pid, libc::SIGKILL);
        }
    }
}
