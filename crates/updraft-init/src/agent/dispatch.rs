//! Dispatches the messages of the host to the parts of init that act on them.

use super::log_queue::Channel;
use super::notifier::WorkerEvent;
use super::state::{LOG_BUFFER, State};
use crate::boot::prepare::Job;
use crate::process::list;
use crate::process::resume_hook::ResumeHook;
use crate::system::{clock, stats};
use crate::units::supervisor::Units;
use guest_protocol::{GuestConfig, HIGHEST, Phase, Resume, ToGuest, ToHost};
use std::time::{Duration, Instant};

/// How long queued messages may take to be sent before power goes off.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl State {
    /// Acts on one message of the host.
    pub(crate) fn dispatch(&mut self, message: ToGuest) {
        if self.low_priority && !matches!(message, ToGuest::Hello { .. }) {
            self.low_priority = false;
            set_nice(0);
        }
        match message {
            ToGuest::Hello { session, .. } => self.welcome(session),
            ToGuest::QuiesceForTemplate => self.quiesce_for_template(),
            ToGuest::Configure(config) => self.configure(config),
            ToGuest::Resumed(resume) => self.resume(&resume),
            ToGuest::Signal(signal) => self.units.signal(signal),
            ToGuest::Stop { signal, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                match self.phase {
                    _ if self.units.is_running() => self.units.stop(signal, timeout),
                    Phase::Preparing => self.early_stop = Some((signal, timeout)),
                    _ => {}
                }
            }
            ToGuest::PowerOff => {
                self.power_off_at.get_or_insert(Instant::now() + FLUSH_TIMEOUT);
            }
            ToGuest::Exec(id, exec) => {
                let started = match (&self.phase, self.units.target(exec.unit)) {
                    (Phase::Running(_), Ok((main, space))) => {
                        self.execs.start(id, &exec, main, space)
                    }
                    (Phase::Running(_), Err(why)) => Err(why.into()),
                    _ => Err("the main process does not run".into()),
                };
                if let Err(error) = started {
                    self.outbox.control(ToHost::ExecFailed(id, error.text, error.kind));
                }
            }
            ToGuest::ExecInput(id, bytes) => self.execs.input(id, &bytes, &mut self.outbox),
            ToGuest::ExecCredit(id, bytes) => self.execs.credit(id, bytes),
            ToGuest::ExecResize(id, size) => self.execs.resize(id, size),
            ToGuest::ExecSignal(id, signal) => self.execs.signal(id, signal),
            ToGuest::ListProcesses(number) => self.list_processes(number),
            ToGuest::ReadStats(number) => self.read_stats(number),
            ToGuest::Awake(now) => self.awake(now),
            ToGuest::ApiData(id, bytes) => self.api.data(id, &bytes, &mut self.outbox),
            ToGuest::ApiEnd(id) => self.api.end(id),
            ToGuest::LogReceived(source, offset, unit) => {
                self.outbox.logs.acknowledge(Channel { source, unit }, offset);
            }
        }
    }

    /// Begins a session. Init implements one version, and the welcome names it: a
    /// host that does not implement that version leaves the guest alone.
    fn welcome(&mut self, session: u64) {
        self.execs.clear();
        self.api.clear();
        self.port.on_hello();
        self.outbox.open_session(ToHost::Welcome {
            version: HIGHEST,
            session,
            phase: self.phase.clone(),
            listening: self.listeners.all(),
        });
        for status in self.units.statuses() {
            self.outbox.control(ToHost::Unit(status));
        }
    }

    /// Only a guest that has not been configured may become a template.
    fn quiesce_for_template(&mut self) {
        if self.phase == Phase::AwaitingConfig {
            self.quiescing.requested = true;
            self.quiescing.prepared = false;
            let _ = self.jobs.send(Job::QuiesceForTemplate);
        }
    }

    fn configure(&mut self, config: Box<GuestConfig>) {
        if self.phase != Phase::AwaitingConfig {
            return;
        }
        self.phase = Phase::Preparing;
        self.outbox.logs.set_limit((config.log_buffer as usize).max(LOG_BUFFER / 16));
        let version = option_env!("UPDRAFT_COMMIT").unwrap_or(env!("CARGO_PKG_VERSION"));
        self.log(&format!("Starting init (commit: {version})..."));
        self.oidc_audience.clone_from(&config.oidc_audience);
        match Units::new(&config) {
            Ok(units) => self.units = units,
            Err(error) => return self.fail(error),
        }
        self.listeners.begin(config.net.as_ref().map(|net| net.ipv4));
        if self.jobs.send(Job::Configure(config)).is_err() {
            self.fail("there is no thread to prepare the guest".to_owned());
        }
    }

    /// The guest was suspended and is resumed, maybe much later and elsewhere.
    fn resume(&mut self, resume: &Resume) {
        self.set_clock(resume.now);
        if let Err(err) = clock::add_entropy(&resume.entropy) {
            self.log(&format!("cannot add entropy: {err}"));
        }
        self.log("Resumed after being suspended");
        if let Some(token) = &self.oidc_token {
            token.renew();
        }
        if resume.hook.is_empty() || !self.units.is_running() {
            return;
        }
        if let Some(earlier) = self.hook.take() {
            earlier.kill();
        }
        let (main, space) = self.units.first_target();
        match ResumeHook::start(&resume.hook, main, space) {
            Ok(hook) => self.hook = Some(hook),
            Err(error) => self.log(&error.text),
        }
    }

    /// The guest is resumed, and a client may wait for the app's answer: the
    /// clock is set before the app runs on, everything else comes later.
    fn awake(&mut self, now: i64) {
        self.set_clock(now);
        self.low_priority = self.units.is_running();
        if self.low_priority {
            set_nice(19);
        }
    }

    fn set_clock(&mut self, now: i64) {
        if let Err(err) = clock::set(now) {
            self.log(&format!("cannot set the clock: {err}"));
        }
    }

    fn list_processes(&mut self, number: u32) {
        // One at a time: /proc of a hostile app is slow to read.
        let work = move |notifier: super::notifier::Notifier| {
            notifier.notify(WorkerEvent::Processes(number, list::list()));
        };
        if self.listing || self.notifier.spawn_worker("ps", work).is_err() {
            self.outbox.control(ToHost::Processes(number, Vec::new()));
        } else {
            self.listing = true;
        }
    }

    fn read_stats(&mut self, number: u32) {
        // One at a time; a statvfs of a file system that hangs holds up nothing else.
        let work = move |notifier: super::notifier::Notifier| {
            notifier.notify(WorkerEvent::Stats(number, Box::new(stats::read())));
        };
        let busy = self.reading_stats || self.notifier.spawn_worker("stats", work).is_err();
        if busy {
            self.outbox.control(ToHost::Stats(number, Box::default()));
        } else {
            self.reading_stats = true;
        }
    }
}

/// Sets the priority of the event loop's thread; children are started at 0.
fn set_nice(nice: i32) {
    // SAFETY: plain system call; 0 means the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
