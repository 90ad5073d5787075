//! Everything that init knows. Only the event loop's thread touches it.

use super::guest_api::GuestApi;
use super::notifier::{Notifier, WorkerEvent};
use super::oidc_token::OidcToken;
use super::outbox::Outbox;
use super::port::Port;
use crate::boot::prepare::{self, Job, Prepared};
use crate::boot::startup::Booted;
use crate::process::exec::Execs;
use crate::process::main_process;
use crate::process::resume_hook::ResumeHook;
use crate::system::listeners::Listeners;
use crate::units::supervisor::Units;
use guest_protocol::{Listener, Phase, ToHost};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Bytes of log held before the configuration sets the limit.
pub(crate) const LOG_BUFFER: usize = 64 * 1024;

/// The work that has to be finished before a template is made of this guest.
#[derive(Debug, Default)]
pub(crate) struct Quiescing {
    pub(crate) requested: bool,
    /// The preparing thread is done.
    pub(crate) prepared: bool,
    /// The thread that watches listeners has set itself up.
    pub(crate) watching: bool,
}

/// The state of init.
pub(crate) struct State {
    pub(crate) port: Port,
    pub(crate) outbox: Outbox,
    pub(crate) phase: Phase,
    pub(crate) notifier: Notifier,
    pub(crate) events: Receiver<WorkerEvent>,
    /// To the thread that prepares the guest.
    pub(crate) jobs: Sender<Job>,
    pub(crate) quiescing: Quiescing,
    /// The main process, or the processes or containers.
    pub(crate) units: Units,
    /// Audience of the token that the main process is to find in its file.
    pub(crate) oidc_audience: Option<String>,
    pub(crate) oidc_token: Option<OidcToken>,
    /// The guest is prepared, and its main process waits for the first attempt to get a token.
    pub(crate) waits_for_token: Option<Prepared>,
    /// A stop that arrived before the main process ran.
    pub(crate) early_stop: Option<(i32, Duration)>,
    /// Processes that the OOM killer had killed before the main process ran.
    pub(crate) oom_kills: u64,
    pub(crate) execs: Execs,
    pub(crate) hook: Option<ResumeHook>,
    /// Init runs at the lowest priority, since a client may be waiting for the
    /// app's answer after a resume.
    pub(crate) low_priority: bool,
    pub(crate) api: GuestApi,
    pub(crate) listeners: Listeners,
    /// A list of processes is being made.
    pub(crate) listing: bool,
    /// The counters of the kernel are being read.
    pub(crate) reading_stats: bool,
    pub(crate) scratch: Option<OwnedFd>,
    pub(crate) power_off_at: Option<Instant>,
}

impl State {
    /// Takes over from boot.
    pub(crate) fn new(booted: Booted) -> rustix::io::Result<Self> {
        let Booted { port, api, context } = booted;
        let (notifier, events) = Notifier::new()?;
        let (jobs, todo) = mpsc::channel();
        // Without the thread the configuration fails, with a message.
        let _ = notifier.spawn_worker("prepare", move |notifier| {
            let notify = |event| notifier.notify(WorkerEvent::Prepare(event));
            prepare::serve(context, &todo, &notify);
        });
        Ok(Self {
            port,
            outbox: Outbox::new(LOG_BUFFER),
            phase: Phase::AwaitingConfig,
            notifier,
            events,
            jobs,
            quiescing: Quiescing::default(),
            units: Units::default(),
            oidc_audience: None,
            oidc_token: None,
            waits_for_token: None,
            early_stop: None,
            oom_kills: main_process::oom_kills(),
            execs: Execs::default(),
            hook: None,
            low_priority: false,
            api,
            listeners: Listeners::default(),
            listing: false,
            reading_stats: false,
            scratch: None,
            power_off_at: None,
        })
    }

    /// The configuration cannot be applied.
    pub(crate) fn fail(&mut self, error: String) {
        self.log(&error);
        self.phase = Phase::Failed(error.clone());
        self.outbox.final_message(ToHost::ConfigFailed(error));
    }

    /// Sends changes of listeners to the host.
    pub(crate) fn report_listeners(&mut self, changes: Vec<(Listener, bool)>) {
        for (listener, began) in changes {
            self.outbox.control(ToHost::Listening(listener, began));
        }
    }

    /// Logs a line of init itself.
    pub(crate) fn log(&mut self, line: &str) {
        self.outbox.logs.line(None, line);
    }
}
