//! Chooses the next boot, begins it, and acts on how it went.

use super::adopt::Adopted;
use super::launch;
use super::launched::{ImageFacts, LaunchError, Launched};
use crate::agent::Report;
use crate::machine::down::clear::{Teardown, VmEnd};
use crate::machine::events::{rounded, with_reason};
use crate::machine::phase::{UpVm, VmPhase};
use crate::machine::step::RequestedAction;
use crate::machine::suspend::snapshot::{self, SnapshotNote};
use crate::machine::task::{Done, Task};
use crate::ports::{BootOrigin, Shape, VmExit};
use crate::record::Record;
use futures_util::future::BoxFuture;
use guest_protocol::Phase;
use host_api::Source;
use model::life::{Event, State};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::machines::{EventDetails, MachineEvent};

impl Task {
    /// Chooses the next boot of a machine without a VM and notes it in its record:
    /// from a snapshot if there is one that can be restored.
    pub(in super::super) async fn choose_boot(
        &mut self,
        record: &mut Record,
    ) -> (Option<SnapshotNote>, Vec<MachineEvent>) {
        record.state = record.state.after(Event::Launch).unwrap_or(State::Starting);
        record.boot = Some(self.ids.boot());
        record.exit = None;
        record.restart_at = None;
        record.failure = None;
        record.busy_until = None;
        // A stop request made before this boot does not apply to it.
        record.stop = None;
        let Some(saved) = record.snapshot else { return (None, Vec::new()) };
        match snapshot::find(&self.host, record, saved).await {
            Ok(note) => (Some(note), Vec::new()),
            Err(why) => (None, vec![self.discard_memory(record, &why)]),
        }
    }

    pub(in super::super) fn begin_prepare(&mut self) {
        let cancel = CancellationToken::new();
        let prepare = launch::prepare(self.host.clone(), self.record.clone(), cancel.clone());
        self.effects.spawn(async move { Done::Prepared(prepare.await) });
        self.vm = VmPhase::Preparing(cancel);
    }

    /// The machine is down and ready to be started, or its start will find out why it
    /// cannot be.
    pub(in super::super) async fn on_prepared(
        &mut self,
        prepared: Result<ImageFacts, LaunchError>,
    ) {
        self.vm = VmPhase::NONE;
        if self.record.state != State::Created {
            return;
        }
        let mut record = self.record.clone();
        record.state = record.state.after(Event::Prepared).unwrap_or(record.state);
        match prepared {
            Ok(image) => {
                record.image.labels = image.labels;
                record.image_stop_signal = image.stop_signal;
            }
            Err(LaunchError::Cancelled) => return,
            Err(LaunchError::Transient(why) | LaunchError::Final(why)) => {
                self.host.log_line(&record, &format!("Machine could not be prepared: {why}"));
                record.failure = Some(format!("it could not be prepared: {why}"));
            }
        }
        let mut event = self.ids.event("stop", record.state, Source::Host);
        let text = record.failure.clone().unwrap_or_else(|| "prepared, not started".into());
        event.request = Some(with_reason(text));
        self.commit(record, vec![event]).await;
    }

    pub(in super::super) async fn begin_launch(&mut self) {
        let note = match std::mem::replace(&mut self.vm, VmPhase::NONE) {
            // Recorded together with the request.
            VmPhase::BootChosen(note) => note,
            _ => {
                let mut record = self.record.clone();
                let (note, events) = self.choose_boot(&mut record).await;
                self.host.capacity.take(record.id, self.host.booked_mib(&record));
                self.commit(record, events).await;
                note
            }
        };
        let Some(boot) = self.record.boot else { return };
        self.start.boots += 1;
        self.timer = None;
        if let Some(note) = note {
            return self.begin_restore(boot, note);
        }
        let cancel = CancellationToken::new();
        let retry = self.start.boots > 1;
        let (host, record) = (self.host.clone(), self.record.clone());
        let launch = launch::launch(host, record, boot, retry, cancel.clone());
        self.effects.spawn(async move { Done::Launched(launch.await) });
        self.vm = VmPhase::Launching(cancel);
    }

    pub(in super::super) async fn on_launched(&mut self, launched: Launched) {
        let (agent, listening) = (launched.agent.clone(), launched.ports.borrow().clone());
        self.show(|view| {
            view.agent = Some(agent);
            view.listening = listening;
            view.unreachable = None;
        });
        self.host.metrics.stages(&launched.stages);
        self.vm_unattended = false;
        self.timer = Some(Instant::now() + self.host.config.boot_deadline);
        self.request_template(&launched.origin);
        let (phase, found) = (launched.welcome.phase.clone(), launched.origin == BootOrigin::Found);
        self.vm = VmPhase::Up(Box::new(UpVm::new(launched)));
        // The events that an adopted guest reported while no daemon ran decide what is done
        // with it. A guest that waited for its config has been sent it.
        match phase {
            Phase::Running(_) => self.on_report(Report::Running { stages_ms: Vec::new() }).await,
            Phase::Exited(exit) => {
                // The config may have been read before the greeting: then the process
                // has run and ended in the meantime, and both are recorded.
                if self.record.state == State::Starting && !found {
                    self.on_report(Report::Running { stages_ms: Vec::new() }).await;
                }
                self.on_report(Report::Exited(exit)).await;
            }
            Phase::Failed(why) => self.on_report(Report::ConfigFailed(why)).await,
            // Its init is of another release, but a machine that has been started runs.
            Phase::Unknown if found && self.record.state != State::Starting => {
                self.on_report(Report::Running { stages_ms: Vec::new() }).await;
            }
            Phase::AwaitingConfig | Phase::Preparing | Phase::Unknown => {}
        }
    }

    pub(in super::super) async fn on_adopted(&mut self, adopted: Adopted) {
        match adopted {
            // It has answered, also if a stop was requested meanwhile.
            Adopted::Session(launched) => self.on_launched(launched).await,
            Adopted::WithoutSession { why, exited } => self.on_unreachable(why, exited).await,
        }
    }

    /// The VM runs and there can be no session with its guest. It is kept: its exit is noticed,
    /// its ports are those that it had, and a stop ends it without a signal.
    async fn on_unreachable(&mut self, why: String, exited: BoxFuture<'static, VmExit>) {
        let text = format!("its guest cannot be reached, the VM keeps running: {why}");
        tracing::warn!(machine = %self.record.id, error = why, "adopted a VM without a session");
        self.host.log_line(&self.record, &format!("The machine was taken over, but {text}"));
        self.vm_unattended = false;
        self.vm = VmPhase::Unreachable(exited);
        let mut event = self.ids.event("limited", self.record.state, Source::Host);
        event.request = Some(with_reason(text.clone()));
        self.show(|view| view.unreachable = Some(text.clone()));
        self.commit(self.record.clone(), vec![event]).await;
        if self.record.state == State::Suspending {
            self.record_suspend_failed(text).await;
        }
    }

    /// The next machine of this shape is to start from a template, if it can.
    fn request_template(&self, origin: &BootOrigin) {
        let record = &self.record;
        let shape = Shape { vcpus: record.vcpus(), memory_mib: record.memory_mib() };
        let can = launch::kernel_args(record).is_empty()
            && record.container_images.is_empty()
            && !record.has_volumes();
        if can && matches!(origin, BootOrigin::Cold(_)) && !self.host.hypervisor.has_template(shape)
        {
            self.host.templates.request(shape);
        }
    }

    pub(in super::super) fn on_launch_failed(&mut self, err: LaunchError) {
        let cancelled = self.vm.is_cancelled_launch();
        match err {
            // Independent of the error: this launch is no longer wanted.
            _ if cancelled => {}
            LaunchError::Cancelled => {}
            // It was adopted or continued, not booted: it counts as lost.
            LaunchError::Transient(why) | LaunchError::Final(why) if self.start.boots == 0 => {
                tracing::warn!(machine = %self.record.id, error = why, "cannot take over a VM");
                self.host.log_line(&self.record, &format!("The VM cannot be taken over: {why}"));
            }
            LaunchError::Transient(why) if !self.start.is_last_boot() => {
                self.host.metrics.boot_retries.inc();
                tracing::warn!(machine = %self.record.id, error = why, "boot failed, trying again");
                self.host.log_line(&self.record, &format!("Boot failed, trying again: {why}"));
            }
            LaunchError::Transient(why) | LaunchError::Final(why) => self.start.failure = Some(why),
        }
        self.vm = VmPhase::Leftover(Teardown::unknown());
    }

    /// The guest could not apply its config.
    pub(in super::super) fn on_config_refused(&mut self, why: String) {
        self.start.failure = Some(why);
        self.end_vm(VmEnd::Unwanted);
    }

    pub(in super::super) async fn on_running(&mut self, guest_stages: Vec<(String, f64)>) {
        let VmPhase::Up(up) = &mut self.vm else { return };
        if std::mem::replace(&mut up.running, true) {
            return;
        }
        self.start.boots = 0;
        let nothing_requested = up.requested == RequestedAction::None;
        let mut record = self.record.clone();
        // Its memory is back, or lost for good: the writable layer is this run's.
        let proven = std::mem::replace(&mut record.keep_scratch, false);
        if self.record.state != State::Starting {
            // Resumed, adopted while it ran, or no longer wanted.
            if nothing_requested {
                self.timer = None;
            }
            if proven {
                self.commit(record, Vec::new()).await;
            }
            return;
        }
        self.timer = None;
        record.state = State::Started;
        if let Some(image) = up.image.take() {
            record.image.labels = image.labels;
            record.image_stop_signal = image.stop_signal;
        }
        record.secrets_version = up.secrets_version.or(record.secrets_version);
        let launch_stages = std::mem::take(&mut up.stages);
        let (origin, reason) = origin_label(&up.origin);
        let mut event = self.ids.event("start", State::Started, Source::Host);
        let guest = durations(guest_stages);
        self.host.metrics.stages(&guest);
        let stages = rounded(launch_stages.into_iter().chain(guest));
        origin.inspect(|origin| self.host.metrics.start(origin));
        event.request = Some(EventDetails {
            stages_ms: Some(stages.iter().cloned().collect()),
            origin: origin.map(str::to_owned),
            reason,
            ..EventDetails::default()
        });
        self.show(|view| view.stages = stages);
        self.commit(record, vec![event]).await;
    }
}

/// How a start came about, and the reason.
fn origin_label(origin: &BootOrigin) -> (Option<&'static str>, Option<String>) {
    match origin {
        BootOrigin::Template => (Some("template"), None),
        BootOrigin::Cold(why) => (Some("cold"), Some(why.clone())),
        BootOrigin::Snapshot => (Some("resumed"), None),
        // Started by a daemon that ended before it could record it.
        BootOrigin::Found => (None, None),
    }
}

/// Init reports times since its own start; a stage's time is since the one before.
fn durations(moments: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let mut last = 0.0;
    let since = |(name, at): (String, f64)| {
        (format!("guest_{name}"), (at - std::mem::replace(&mut last, at)).max(0.0))
    };
    moments.into_iter().map(since).collect()
}
