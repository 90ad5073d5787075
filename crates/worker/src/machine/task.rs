//! The task that owns one machine.
//!
//! It takes requests and messages of the VM, makes every change durable before it
//! is shown, and after each asks [`step::next`] what to do. Slow work (launch,
//! save, removal) runs beside it; at most one of each at a time.

use super::boot::adopt::{self, Adopted};
use super::boot::launched::{ImageFacts, LaunchError, Launched};
use super::boot::restore::{RestoreError, RestoredVm};
use super::down::clear::{Teardown, VmEnd};
use super::events::EventIds;
use super::handle::{AtStart, Call, Handle};
use super::phase::{VmMessage, VmPhase};
use super::step::{self, Observed, Step, Vm};
use super::suspend::save::SaveError;
use super::view::View;
use crate::agent::Report;
use crate::context::HostContext;
use crate::ports::{SaveTimes, VmExit};
use crate::record::Record;
use host_api::Source;
use model::id::EventId;
use model::lease::Lease;
use model::life::State;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests that may wait for one machine; more are refused.
const INBOX: usize = 64;
/// Boots tried for one start.
const MAX_BOOTS: u32 = 3;

/// Why a machine's task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskEnd {
    /// The machine is destroyed.
    Destroyed,
    /// The host is stopping; the VM keeps running.
    HostStopping,
}

/// A machine's task, to be run by the caller, and how to reach it.
pub(crate) fn new(
    host: &Arc<HostContext>,
    view: View,
    lease: Option<Lease>,
    at_start: AtStart,
) -> (Handle, impl Future<Output = TaskEnd> + Send + 'static) {
    let (requests, inbox) = mpsc::channel(INBOX);
    let record = view.record.clone();
    let newest = view.events.front().and_then(|event| event.id.parse::<EventId>().ok());
    let earlier = [newest.map(EventId::parts), Some(record.instance.parts())].into_iter().flatten();
    let ids = EventIds::new(host.clock.clone(), host.rng.clone(), earlier);
    let (views, watched) = watch::channel(Arc::new(view));
    let task = Task {
        ids,
        call_key: None,
        call_lease: None,
        lease,
        snapshot_files: false,
        host: host.clone(),
        record,
        views,
        vm: VmPhase::NONE,
        effects: JoinSet::new(),
        start: StartAttempt::default(),
        suspend: SuspendAttempt::default(),
        timer: None,
        drains: 0,
        drained_early: false,
        vm_unattended: at_start != AtStart::NoVm,
        check_events: VecDeque::new(),
    };
    task.publish();
    (Handle { requests, views: watched }, task.run(inbox, at_start))
}

/// The result of slow work.
pub(super) enum Done {
    Prepared(Result<ImageFacts, LaunchError>),
    Launched(Result<Launched, LaunchError>),
    Adopted(Result<Adopted, LaunchError>),
    Restored(Result<RestoredVm, RestoreError>),
    Saved(Result<SaveTimes, SaveError>),
    Cleared(VmExit),
    Sent,
    /// Every edge has applied that the machine stops.
    RoutesApplied {
        drain: u64,
    },
}

/// The start that is under way.
#[derive(Debug, Default)]
pub(super) struct StartAttempt {
    /// Boots tried so far.
    pub(super) boots: u32,
    /// Why it cannot succeed.
    pub(super) failure: Option<String>,
    /// Why the machine cannot be resumed from its snapshot.
    pub(super) unresumable: Option<String>,
}

impl StartAttempt {
    pub(super) fn is_last_boot(&self) -> bool {
        self.boots >= MAX_BOOTS
    }
}

/// The suspend that is under way.
#[derive(Debug)]
pub(super) struct SuspendAttempt {
    pub(super) requested_by: Source,
    /// Milliseconds by stage, once the snapshot is complete.
    pub(super) stages: Vec<(String, f64)>,
}

impl Default for SuspendAttempt {
    fn default() -> Self {
        Self { requested_by: Source::User, stages: Vec::new() }
    }
}

/// One machine and everything that is under way for it.
pub(super) struct Task {
    pub(super) host: Arc<HostContext>,
    pub(super) record: Record,
    pub(super) views: watch::Sender<Arc<View>>,
    pub(super) vm: VmPhase,
    pub(super) effects: JoinSet<Done>,
    pub(super) ids: EventIds,
    /// Idempotency key of the request that is handled.
    pub(super) call_key: Option<String>,
    /// The lease that the request grants with its change.
    pub(super) call_lease: Option<Lease>,
    /// The last lease that was granted; it may have expired.
    pub(super) lease: Option<Lease>,
    pub(super) start: StartAttempt,
    pub(super) suspend: SuspendAttempt,
    /// When the current state has lasted too long, or a pause is over.
    pub(super) timer: Option<Instant>,
    /// Drains that have been begun.
    pub(super) drains: u64,
    /// The edge had no request in flight any more before the drain of this state began:
    /// the session with the guest was still being opened.
    pub(super) drained_early: bool,
    /// Files of a snapshot may exist.
    pub(super) snapshot_files: bool,
    /// The VM may have ended while no daemon ran.
    pub(super) vm_unattended: bool,
    /// When the newest events of checks were recorded.
    pub(super) check_events: VecDeque<Instant>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Call>, at_start: AtStart) -> TaskEnd {
        // One that was never started has none.
        self.snapshot_files = self.record.state != State::Created
            && self.host.has_snapshot_files(self.record.id).await;
        self.begin(at_start);
        let stopping = self.host.tasks.stopping();
        tokio::pin!(stopping);
        while self.advance().await && self.record.state != State::Destroyed {
            let timer = self.timer;
            tokio::select! {
                biased;
                // VM exits first: after an exit, queued requests no longer apply.
                message = self.vm.next_message() => self.on_vm_message(message).await,
                Some(done) = self.effects.join_next() => match done {
                    Ok(done) => self.on_done(done).await,
                    Err(err) => self.on_broken_effect(&err),
                },
                Some(call) = inbox.recv() => self.on_call(call).await,
                () = sleep_until(timer) => self.on_timer(),
                // Shutdown last: queued requests are recorded first. VMs outlive the
                // daemon, so no VM is removed here.
                () = &mut stopping => return TaskEnd::HostStopping,
            }
        }
        match self.record.state {
            State::Destroyed => TaskEnd::Destroyed,
            _ => TaskEnd::HostStopping,
        }
    }

    fn begin(&mut self, at_start: AtStart) {
        match at_start {
            AtStart::NoVm => {}
            AtStart::Leftover => self.vm = VmPhase::Leftover(Teardown::unknown()),
            AtStart::Saved => self.vm = VmPhase::Saved(None),
            AtStart::Running(boot) => {
                // Cancelled only between two attempts: a VM that is to stop and can be
                // reached gets a stop request, no kill.
                let cancel = CancellationToken::new();
                let (host, record) = (self.host.clone(), self.record.clone());
                let adopt = adopt::adopt(host, record, boot, cancel.clone());
                self.effects.spawn(async move { Done::Adopted(adopt.await) });
                self.vm = VmPhase::Launching(cancel);
            }
        }
        self.set_restart_timer();
    }

    /// Does what is to be done next until there is nothing. False if the host
    /// is stopping.
    async fn advance(&mut self) -> bool {
        loop {
            match step::next(self.record.state, self.record.want, self.observe(&self.record)) {
                Step::Idle => return true,
                Step::RemoveSnapshot => self.remove_orphaned_snapshot().await,
                Step::Prepare => self.begin_prepare(),
                Step::RecordDestroying => self.record_destroying().await,
                Step::Launch => self.begin_launch().await,
                Step::CancelLaunch => {
                    if let VmPhase::Launching(cancel) | VmPhase::Preparing(cancel) = &self.vm {
                        cancel.cancel();
                    }
                    return true;
                }
                Step::RequestStop => self.begin_stop(),
                Step::Suspend => self.begin_suspend(),
                Step::CancelSuspend => {
                    if let VmPhase::Saving(saving) = &self.vm {
                        saving.cancel.cancel();
                    }
                    return true;
                }
                Step::ContinueVm => {
                    let saved = std::mem::replace(&mut self.vm, VmPhase::NONE);
                    let agent = if let VmPhase::Saved(agent) = saved { agent } else { None };
                    self.continue_vm(agent);
                }
                Step::RecordSuspendAborted => self.record_suspend_aborted().await,
                Step::Clear => self.begin_clear(),
                Step::RecordDown => self.record_down().await,
                Step::RecordDestroyed => self.record_destroyed().await,
            }
            if self.host.tasks.is_stopping() {
                return false;
            }
        }
    }

    /// The present state of the machine, if `record` were its record.
    pub(super) fn observe(&self, record: &Record) -> Observed {
        let vm = match &self.vm {
            VmPhase::Absent(_) => Vm::Absent,
            VmPhase::BootChosen(_) => Vm::BootChosen,
            VmPhase::Preparing(_) => Vm::Preparing,
            VmPhase::Launching(_) => Vm::Launching,
            VmPhase::Up(up) => Vm::Up { running: up.running, requested: up.requested },
            VmPhase::Unreachable(_) => Vm::Unreachable,
            VmPhase::Saving(saving) => Vm::Saving { cancelled: saving.cancel.is_cancelled() },
            VmPhase::Saved(_) => Vm::Saved,
            VmPhase::Leftover(_) => Vm::Leftover,
            VmPhase::Clearing => Vm::Clearing,
        };
        let due = record.restart_at.is_none_or(|at| at <= self.host.clock.now_ms());
        let unused = match &self.vm {
            VmPhase::Absent(_) => true,
            VmPhase::Up(up) => up.has_own_memory(),
            _ => false,
        };
        let orphaned_snapshot = self.snapshot_files && record.snapshot.is_none() && unused;
        Observed { vm, due, booted: record.boot.is_some(), orphaned_snapshot }
    }

    pub(super) fn set_restart_timer(&mut self) {
        if let Some(at) = self.record.restart_at {
            let pause = Duration::from_millis(at.saturating_sub(self.host.clock.now_ms()));
            // A clock that was set back must not extend the pause beyond its bound.
            let pause = pause.min(model::restart::LONGEST_PAUSE);
            self.timer = Some(Instant::now() + pause);
        }
    }

    async fn on_done(&mut self, done: Done) {
        match done {
            Done::Sent => {}
            Done::RoutesApplied { drain } => self.on_routes_applied(drain),
            Done::Prepared(prepared) => self.on_prepared(prepared).await,
            Done::Launched(Ok(launched)) => self.on_launched(launched).await,
            Done::Launched(Err(err)) => self.on_launch_failed(err),
            Done::Adopted(Ok(adopted)) => self.on_adopted(adopted).await,
            Done::Adopted(Err(err)) => self.on_launch_failed(err),
            Done::Restored(restored) => self.on_restored(restored).await,
            Done::Saved(saved) => self.on_saved(saved).await,
            Done::Cleared(exit) => {
                self.vm = VmPhase::Absent(exit);
                self.host.logs.end_streams(&self.record.id.to_string());
                self.show(|view| {
                    view.agent = None;
                    view.listening.clear();
                    view.units.clear();
                });
            }
        }
    }

    /// Slow work panicked: a defect. What it has made is removed.
    fn on_broken_effect(&mut self, err: &tokio::task::JoinError) {
        tracing::error!(machine = %self.record.id, error = %err, "machine work panicked");
        self.start.failure = Some("the host's work for it panicked; see the host's log".into());
        self.vm = VmPhase::Leftover(Teardown::unknown());
    }

    async fn on_vm_message(&mut self, message: VmMessage) {
        match message {
            VmMessage::Report(report) => self.on_report(report).await,
            VmMessage::Ports(ports) => self.show(|view| view.listening = ports),
            VmMessage::Units(units) => self.show(|view| view.units = units),
        }
    }

    pub(super) async fn on_report(&mut self, report: Report) {
        if let VmPhase::Saving(saving) = &mut self.vm {
            return match report {
                Report::Exited(exit) => {
                    // A snapshot of an ended process has no use: the VM is taken over
                    // once more and removed.
                    saving.cancel.cancel();
                    let record = Record { exit: Some(exit), ..self.record.clone() };
                    self.commit(record, Vec::new()).await;
                }
                Report::Lost => saving.session_ended = true,
                Report::Running { .. } | Report::ConfigFailed(_) => {}
            };
        }
        match report {
            Report::Running { stages_ms } => self.on_running(stages_ms).await,
            Report::ConfigFailed(why) => self.on_config_refused(why),
            Report::Exited(exit) => {
                let mut record = self.record.clone();
                record.exit = Some(exit);
                self.commit(record, Vec::new()).await;
                self.end_vm(VmEnd::ProcessExited);
            }
            Report::Lost => self.end_vm(VmEnd::VmLost),
        }
    }
}

async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
