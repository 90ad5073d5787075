//! Suspends a VM, and resumes it if the suspend is aborted or fails.
//!
//! The state stays `suspending` until the VM is gone; then the snapshot of its run
//! decides, after a crash in the same way as without one (`record_down`).

use super::save::{self, SaveError};
use crate::agent::Agent;
use crate::machine::events::{rounded, with_reason};
use crate::machine::phase::{Saving, UpVm, VmPhase};
use crate::machine::step::RequestedAction;
use crate::machine::task::{Done, SuspendAttempt, Task};
use crate::ports::SaveTimes;
use crate::record::Record;
use host_api::{HostError, Source};
use model::id::BootId;
use model::life::{Event, State, Want};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use wire::machines::{EventDetails, MachineEvent};

impl Task {
    pub(in super::super) async fn request_suspend(
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
            return self.change_nothing().await;
        }
        let mut event = self.ids.event("suspend", record.state, source);
        event.request = reason.map(with_reason);
        self.try_commit(record, vec![event], false).await?;
        self.suspend = SuspendAttempt { requested_by: source, stages: Vec::new() };
        Ok(())
    }

    /// Begins the suspend of a VM: between two requests, if it serves any.
    pub(in super::super) fn begin_suspend(&mut self) {
        let drain = self.is_routed_to();
        let VmPhase::Up(up) = &mut self.vm else { return };
        up.requested = RequestedAction::Suspend;
        match drain {
            true => self.begin_drain(),
            false => self.begin_save(),
        }
    }

    pub(in super::super) fn begin_save(&mut self) {
        let VmPhase::Up(up) = std::mem::replace(&mut self.vm, VmPhase::NONE) else { return };
        self.timer = None;
        self.snapshot_files = true;
        let cancel = CancellationToken::new();
        let subject = (up.agent.clone(), up.ports.clone());
        let save = save::save(self.host.clone(), self.record.clone(), subject, cancel.clone());
        self.effects.spawn(async move { Done::Saved(save.await) });
        self.vm = VmPhase::Saving(Box::new(Saving { up: *up, cancel, session_ended: false }));
    }

    pub(in super::super) async fn on_saved(&mut self, saved: Result<SaveTimes, SaveError>) {
        let VmPhase::Saving(saving) = std::mem::replace(&mut self.vm, VmPhase::NONE) else {
            return;
        };
        let Saving { up, cancel, .. } = *saving;
        let agent = up.agent.clone();
        match saved {
            // Its main process has ended, and that is recorded.
            Ok(_) if self.record.exit.is_some() => self.continue_vm(Some(agent)),
            Ok(times) => {
                let stages = stages(times);
                self.host.metrics.suspend(&stages);
                self.suspend.stages = stages;
                self.vm = VmPhase::Saved(Some(agent));
            }
            Err(err) => {
                match err.untouched {
                    true => {
                        self.vm =
                            VmPhase::Up(Box::new(UpVm { requested: RequestedAction::None, ..up }))
                    }
                    false => self.continue_vm(Some(agent)),
                }
                if !cancel.is_cancelled() {
                    self.record_suspend_failed(err.why).await;
                }
            }
        }
    }

    /// Removes the snapshot of a paused VM, resumes it and opens a new session.
    pub(in super::super) fn continue_vm(&mut self, agent: Option<Arc<Agent>>) {
        // Execs wait for the new session.
        self.show(|view| view.agent = None);
        let cancel = CancellationToken::new();
        let (host, record) = (self.host.clone(), self.record.clone());
        let continued = save::discard_and_resume(host, record, agent, cancel.clone());
        self.effects.spawn(async move { Done::Adopted(continued.await) });
        self.vm = VmPhase::Launching(cancel);
    }

    pub(in super::super) async fn record_suspend_failed(&mut self, why: String) {
        self.host.metrics.suspend_failures.inc();
        tracing::warn!(machine = %self.record.id, error = why, "cannot suspend a machine");
        if self.record.state != State::Suspending || self.record.exit.is_some() {
            return;
        }
        let mut record = self.record.clone();
        // A user can repeat the request; the edge has made it because the machine is
        // idle, and a stop serves that as well.
        let stop = self.suspend.requested_by == Source::Proxy && record.want != Want::Run;
        let (event, what) = match stop {
            true => (Event::Stop, "stopping instead"),
            false => (Event::SuspendAborted, "it keeps running"),
        };
        record.state = record.state.after(event).unwrap_or(record.state);
        record.stop = stop.then(|| record.stop_request(None, None));
        record.want = if stop { Want::Stop } else { Want::Run };
        let mut event = self.ids.event("suspend_failed", record.state, Source::Host);
        event.request = Some(with_reason(format!("cannot be suspended: {why}; {what}")));
        self.commit(record, vec![event]).await;
    }

    /// A start has aborted the suspend.
    pub(in super::super) async fn record_suspend_aborted(&mut self) {
        if let VmPhase::Up(up) = &mut self.vm {
            (up.requested, up.draining) = (RequestedAction::None, None);
        }
        self.timer = None;
        let mut record = self.record.clone();
        record.state = record.state.after(Event::SuspendAborted).unwrap_or(record.state);
        let mut event = self.ids.event("start", record.state, Source::Host);
        event.request =
            Some(with_reason("the suspend was aborted; the machine keeps running".into()));
        self.commit(record, vec![event]).await;
    }

    /// The VM of a suspending machine is gone, and its snapshot is there.
    pub(in super::super) async fn record_saved(&mut self, boot: BootId) {
        (self.start.failure, self.vm_unattended, self.start.boots) = (None, false, 0);
        let mut record = self.record.clone();
        record.state = record.state.after(Event::Saved).unwrap_or(record.state);
        (record.boot, record.snapshot) = (None, Some(boot));
        (record.stop, record.keep_scratch) = (None, false);
        let stages = std::mem::take(&mut self.suspend.stages);
        // A daemon that was killed has not measured the stages.
        let stages_ms = (!stages.is_empty()).then(|| stages.into_iter().collect());
        let mut event = self.ids.event("suspend", record.state, Source::Host);
        event.request = Some(EventDetails { stages_ms, ..EventDetails::default() });
        self.commit(record, vec![event]).await;
    }

    /// The machine cannot be resumed: it is booted, with its writable layer as it
    /// was when it was suspended.
    pub(in super::super) fn discard_memory(
        &mut self,
        record: &mut Record,
        why: &str,
    ) -> MachineEvent {
        self.host.metrics.resume_failures.inc();
        let text = format!("cannot be resumed: {why}; booting instead");
        self.host.log_line(record, &format!("Machine {text}"));
        (record.snapshot, record.keep_scratch) = (None, true);
        let mut event = self.ids.event("resume_failed", record.state, Source::Host);
        event.request = Some(with_reason(text));
        event
    }

    /// Removes a snapshot that the record does not name.
    pub(in super::super) async fn remove_orphaned_snapshot(&mut self) {
        self.snapshot_files = false;
        if let Err(err) = self.host.remove_snapshot(self.record.id).await {
            // The record does not name it, so it is never restored; the next suspend
            // replaces it.
            tracing::warn!(machine = %self.record.id, error = rt::chain(&err), "cannot remove an unused snapshot");
        }
    }
}

fn stages(times: SaveTimes) -> Vec<(String, f64)> {
    let SaveTimes { prepare_ms, save_ms, sync_ms, .. } = times;
    let named = [("prepare", prepare_ms), ("save", save_ms), ("sync", sync_ms)];
    rounded(named.map(|(name, ms)| (name.to_owned(), ms)))
}
