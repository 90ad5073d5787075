//! Suspend: a VM is drained, hushed, written down and removed; and how it goes
//! on if it is not to be, or cannot be, suspended.
//!
//! The state stays `suspending` until the VM is gone: then the snapshot of its run
//! decides, the same after a crash as in the good case (`record_down`).

use super::launch::{self, LaunchError, Launched};
use super::snapshot::Note;
use super::step::Asked;
use super::{Done, Now, Task, UpVm};
use crate::agent::{Agent, Ports};
use crate::host::Shared;
use crate::ports::{SaveTimes, SnapshotSpec};
use crate::record::Record;
use model::id::BootId;
use model::life::{Event, State, Want};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::machines::{EventDetails, MachineEvent};
use wire::worker::{HostError, Source};

/// How long a stop or suspend waits for what the edge has in flight: a usual
/// request fits in, an open connection is the app's to end.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// A VM that is being written down.
pub(super) struct Saving {
    pub(super) up: UpVm,
    pub(super) cancel: CancellationToken,
    /// Its session has nothing more to say.
    pub(super) over: bool,
}

/// Why a VM was not written down.
pub(super) struct SaveError {
    why: String,
    /// Nothing was done to it yet: its session goes on.
    untouched: bool,
}

impl Task {
    pub(super) async fn suspend(
        &mut self,
        source: Source,
        reason: Option<String>,
    ) -> Result<(), HostError> {
        let mut record = self.after(Event::Suspend)?;
        if let Some(why) = record.unsuspendable() {
            return Err(HostError::Conflict(format!("machine cannot be suspended: {why}")));
        }
        record.want = Want::Stop;
        record.restart_at = None;
        if record == self.record {
            return Ok(());
        }
        let mut event = self.ids.event("suspend", record.state, source);
        event.request = reason.map(because);
        self.try_commit(record, vec![event], false).await?;
        self.suspend_for = source;
        Ok(())
    }

    /// Begins the suspend of a VM: between two requests, if it serves any.
    pub(super) fn begin_suspend(&mut self) {
        let drain = self.is_routed_to();
        let Now::Up(up) = &mut self.vm else { return };
        up.asked = Asked::Suspend;
        up.draining = drain;
        match drain {
            true => self.timer = Some(Instant::now() + DRAIN),
            false => self.begin_save(),
        }
    }

    /// The edge may have requests in flight at it.
    pub(super) fn is_routed_to(&self) -> bool {
        let services = self.record.config.services.as_ref();
        services.is_some_and(|all| !all.is_empty()) && self.host.routes.has_subscribers()
    }

    pub(super) fn begin_save(&mut self) {
        let Now::Up(up) = std::mem::replace(&mut self.vm, Now::Absent) else { return };
        self.timer = None;
        self.snapshot_left = true;
        let cancel = CancellationToken::new();
        let subject = (up.agent.clone(), up.ports.clone());
        let save = save(self.host.clone(), self.record.clone(), subject, cancel.clone());
        self.effects.spawn(async move { Done::Saved(save.await) });
        self.vm = Now::Saving(Box::new(Saving { up: *up, cancel, over: false }));
    }

    pub(super) async fn on_saved(&mut self, saved: Result<SaveTimes, SaveError>) {
        let Now::Saving(saving) = std::mem::replace(&mut self.vm, Now::Absent) else { return };
        let Saving { up, cancel, .. } = *saving;
        let agent = up.agent.clone();
        match saved {
            // It stands still in the midst of its end, which has been told.
            Ok(_) if self.record.exit.is_some() => self.go_on(Some(agent)),
            Ok(times) => {
                let stages = stages(times);
                self.host.metrics.suspend(&stages);
                self.stages = stages;
                self.vm = Now::Saved(Some(agent));
            }
            Err(err) => {
                match err.untouched {
                    true => self.vm = Now::Up(Box::new(UpVm { asked: Asked::Nothing, ..up })),
                    false => self.go_on(Some(agent)),
                }
                if !cancel.is_cancelled() {
                    self.record_suspend_failed(err.why).await;
                }
            }
        }
    }

    /// Lets a VM go on without what was written of it, with a new session.
    pub(super) fn go_on(&mut self, agent: Option<Arc<Agent>>) {
        // Who wants to speak to it waits for the new one.
        self.show(|view| view.agent = None);
        let go_on = go_on(self.host.clone(), self.record.clone(), agent);
        self.effects.spawn(async move { Done::Launched(go_on.await) });
        // As with any VM that is taken over, this is not cancelled.
        self.vm = Now::Launching(CancellationToken::new());
    }

    async fn record_suspend_failed(&mut self, why: String) {
        self.host.metrics.suspend_failures.inc();
        tracing::warn!(machine = %self.record.id, error = why, "cannot suspend a machine");
        if self.record.state != State::Suspending || self.record.exit.is_some() {
            return;
        }
        let mut record = self.record.clone();
        // Who asked for its memory to be kept can ask again; the edge has asked
        // because nobody needs the machine (L016).
        let stop = self.suspend_for == Source::Proxy && record.want != Want::Run;
        let (event, what) = match stop {
            true => (Event::Stop, "stopping instead"),
            false => (Event::Continued, "it goes on"),
        };
        record.state = record.state.after(event).unwrap_or(record.state);
        record.stop = stop.then(|| record.stop_order(None, None));
        record.want = if stop { Want::Stop } else { Want::Run };
        let mut event = self.ids.event("suspend_failed", record.state, Source::Host);
        event.request = Some(because(format!("cannot be suspended: {why}; {what}")));
        self.commit(record, vec![event]).await;
    }

    /// A wish to run has met a suspend that is not to be.
    pub(super) async fn record_continued(&mut self) {
        if let Now::Up(up) = &mut self.vm {
            (up.asked, up.draining) = (Asked::Nothing, false);
        }
        self.timer = None;
        let mut record = self.record.clone();
        record.state = record.state.after(Event::Continued).unwrap_or(record.state);
        let mut event = self.ids.event("start", record.state, Source::Host);
        event.request = Some(because("it goes on: the suspend was given up".into()));
        self.commit(record, vec![event]).await;
    }

    /// The VM of a suspending machine is gone, and its snapshot is there.
    pub(super) async fn record_saved(&mut self, boot: BootId) {
        (self.failure, self.host_was_away, self.tries) = (None, false, 0);
        let mut record = self.record.clone();
        record.state = record.state.after(Event::Saved).unwrap_or(record.state);
        (record.boot, record.snapshot) = (None, Some(boot));
        (record.stop, record.keep_scratch) = (None, false);
        let stages = std::mem::take(&mut self.stages);
        // A daemon that was killed has not measured it.
        let stages_ms = (!stages.is_empty()).then(|| stages.into_iter().collect());
        let mut event = self.ids.event("suspend", record.state, Source::Host);
        event.request = Some(EventDetails { stages_ms, ..EventDetails::default() });
        self.commit(record, vec![event]).await;
    }

    /// The memory of a machine cannot be gone on with: it is booted, on the
    /// writable layer as it was (L009).
    pub(super) fn give_memory_up(&mut self, record: &mut Record, why: &str) -> MachineEvent {
        self.host.metrics.resume_failures.inc();
        let text = format!("cannot be resumed: {why}; booting instead");
        self.host.say(record, &format!("Machine {text}"));
        (record.snapshot, record.keep_scratch) = (None, true);
        let mut event = self.ids.event("resume_failed", record.state, Source::Host);
        event.request = Some(because(text));
        event
    }

    /// Removes a snapshot without owner.
    pub(super) async fn drop_stray_snapshot(&mut self) {
        self.snapshot_left = false;
        if let Err(err) = self.host.drop_snapshot(self.record.id).await {
            // The record does not name it, so nobody goes on with it; the next
            // suspend takes its place.
            tracing::warn!(machine = %self.record.id, error = rt::chain(&err), "a snapshot stays");
        }
    }
}

pub(super) fn because(reason: String) -> EventDetails {
    EventDetails { reason: Some(reason), ..EventDetails::default() }
}

fn stages(times: SaveTimes) -> Vec<(String, f64)> {
    let SaveTimes { prepare_ms, save_ms, sync_ms, .. } = times;
    let named = [("prepare", prepare_ms), ("save", save_ms), ("sync", sync_ms)];
    super::change::rounded(named.map(|(name, ms)| (name.to_owned(), ms)))
}

/// Writes a VM down; it stands still after that.
async fn save(
    host: Arc<Shared>,
    record: Record,
    (agent, ports): (Arc<Agent>, watch::Receiver<Ports>),
    cancel: CancellationToken,
) -> Result<SaveTimes, SaveError> {
    let given_up = |untouched| SaveError { why: "it was given up".into(), untouched };
    let failed = |why: String| SaveError { why, untouched: false };
    let boot = record.boot.ok_or_else(|| failed("it has no VM".into()))?;
    // A machine that waits for its turn goes on running.
    let turn = cancel.run_until_cancelled(host.saves.clone().acquire_owned()).await;
    let _turn = turn.ok_or_else(|| given_up(true))?.map_err(|err| failed(err.to_string()))?;
    let hushed = cancel.run_until_cancelled(agent.hush()).await;
    hushed.ok_or_else(|| given_up(false))?.map_err(|err| failed(rt::chain(&err)))?;
    let note = Note::new(&record, ports.borrow().clone()).to_json();
    let to = SnapshotSpec { dir: host.snapshot_dir(record.id), note };
    let saved = host.hypervisor.suspend(record.id, boot, to, cancel).await;
    saved.map_err(|err| failed(rt::chain(&err)))
}

async fn go_on(
    host: Arc<Shared>,
    record: Record,
    agent: Option<Arc<Agent>>,
) -> Result<Launched, LaunchError> {
    let boot = record.boot.ok_or(LaunchError::Cancelled)?;
    // First, and durably: once the VM has gone on its disk is not the one that
    // belongs to the snapshot. If it cannot be removed the VM is, and is resumed.
    let dropped = host.drop_snapshot(record.id).await;
    dropped.map_err(|err| LaunchError::of(&err))?;
    if let Some(agent) = agent {
        agent.close().await;
    }
    launch::adopt(host, record, boot).await
}
