//! Ends a VM: between two requests if there is time, by a signal to its main
//! process, and by a kill after the timeout.

use super::clear::{self, Teardown, VmEnd};
use crate::machine::phase::{Draining, VmPhase};
use crate::machine::step::RequestedAction;
use crate::machine::task::{Done, Task};
use crate::record::{Persist, StopRequest};
use guest_protocol::ToGuest;
use model::life::{State, Want};
use model::signal::SIGKILL;
use std::time::Duration;
use tokio::time::Instant;

/// Beyond a stop's own timeout, for the guest to report the end.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long a stop or suspend waits for requests that the edge has in flight: a
/// usual request ends within it; the app ends connections that stay open.
const DRAIN: Duration = Duration::from_secs(1);

impl Task {
    /// The VM is of no more use. Its guest flushes its disks only if they outlive
    /// the VM; otherwise a kill is as good and faster.
    pub(in super::super) fn end_vm(&mut self, end: VmEnd) {
        let up = match std::mem::replace(&mut self.vm, VmPhase::NONE) {
            VmPhase::Up(up) => up,
            VmPhase::Unreachable(exited) => {
                let exited = Some(exited);
                self.vm =
                    VmPhase::Leftover(Teardown { exited, keep_link: true, ..Teardown::unknown() });
                return self.show(|view| (view.listening.clear(), view.unreachable = None).1);
            }
            // How it ends has been decided already.
            other => return self.vm = other,
        };
        self.timer = None;
        let persists = self.record.persist() != Persist::Never || self.record.has_volumes();
        let wrote = end == VmEnd::ProcessExited || (end == VmEnd::Unwanted && up.running);
        let agent = (persists && wrote).then(|| up.agent.clone());
        // The console tail of a VM that has ended by itself is worth a short wait.
        let exited = (agent.is_some() || end == VmEnd::VmLost).then_some(up.exited);
        self.vm = VmPhase::Leftover(Teardown { agent, exited, keep_link: true });
        self.show(|view| view.listening.clear());
    }

    pub(in super::super) fn begin_clear(&mut self) {
        self.end_vm(VmEnd::Unwanted);
        let mut teardown = match std::mem::replace(&mut self.vm, VmPhase::Clearing) {
            VmPhase::Leftover(teardown) => teardown,
            VmPhase::Saved(_) => Teardown::paused(),
            _ => Teardown::unknown(),
        };
        teardown.keep_link &= self.record.state != State::Destroying && !self.vm_unattended;
        let clear = clear::clear(self.host.clone(), self.record.clone(), teardown);
        self.effects.spawn(async move { Done::Cleared(clear.await) });
    }

    /// Begins the end of the main process: between two requests, if it serves
    /// any and there is time for that.
    pub(in super::super) fn begin_stop(&mut self) {
        let stop = self.stop_request();
        let graceful = stop.signal != SIGKILL && stop.timeout_ms > 0;
        let drain = graceful && self.is_routed_to();
        let VmPhase::Up(up) = &mut self.vm else { return };
        up.requested = RequestedAction::Stop;
        // A harsher stop ends the drain of the one before.
        up.draining = None;
        match drain {
            true => self.begin_drain(),
            false => self.send_stop(),
        }
    }

    /// Waits until the edges have no request in flight and send no new one, for at most
    /// [`DRAIN`].
    pub(in super::super) fn begin_drain(&mut self) {
        let applied = self.host.routes.applied();
        let VmPhase::Up(up) = &mut self.vm else { return };
        self.drains += 1;
        let number = self.drains;
        let drained = std::mem::take(&mut self.drained_early);
        up.draining = Some(Draining { number, drained, routes_applied: false });
        self.timer = Some(Instant::now() + DRAIN);
        self.effects.spawn(async move {
            // Beyond that the timer has ended the drain.
            let _ = tokio::time::timeout(DRAIN, applied).await;
            Done::RoutesApplied { drain: number }
        });
    }

    /// The edge has no request in flight any more.
    pub(in super::super) fn on_drained(&mut self) {
        match &self.vm {
            // The edge drains as soon as it sees the new state, which may be before
            // there is a session.
            VmPhase::Launching(_) => self.drained_early = self.record.want != Want::Run,
            _ => self.note_drain(|draining| draining.drained = true),
        }
    }

    /// Every edge has applied that the machine stops.
    pub(in super::super) fn on_routes_applied(&mut self, drain: u64) {
        // Those of an earlier drain have seen another change.
        self.note_drain(|draining| draining.routes_applied |= draining.number == drain);
    }

    fn note_drain(&mut self, note: impl FnOnce(&mut Draining)) {
        let VmPhase::Up(up) = &mut self.vm else { return };
        let Some(draining) = &mut up.draining else { return };
        note(draining);
        if draining.drained && draining.routes_applied {
            self.end_drain();
        }
    }

    /// The edge may have requests in flight at it.
    pub(in super::super) fn is_routed_to(&self) -> bool {
        let services = self.record.config.services.as_ref();
        services.is_some_and(|all| !all.is_empty()) && self.host.routes.has_subscribers()
    }

    /// The edge has no request in flight any more, or the drain time is over.
    pub(in super::super) fn end_drain(&mut self) {
        let VmPhase::Up(up) = &mut self.vm else { return };
        if up.draining.take().is_some() {
            match up.requested {
                RequestedAction::Suspend => self.begin_save(),
                RequestedAction::Stop | RequestedAction::None => self.send_stop(),
            }
        }
    }

    fn send_stop(&mut self) {
        let stop = self.stop_request();
        self.timer = Some(Instant::now() + Duration::from_millis(stop.timeout_ms) + STOP_GRACE);
        self.send(ToGuest::Stop { signal: stop.signal, timeout_ms: stop.timeout_ms });
    }

    fn stop_request(&self) -> StopRequest {
        self.record.stop.unwrap_or_else(|| self.record.stop_request(None, None))
    }

    /// Sends a message to the guest without waiting for it to be read.
    pub(in super::super) fn send(&mut self, message: ToGuest) {
        let VmPhase::Up(up) = &self.vm else { return };
        let agent = up.agent.clone();
        self.effects.spawn(async move {
            // A guest that does not read is ended by the deadline of its state.
            let _ = tokio::time::timeout(STOP_GRACE, agent.send(&message)).await;
            Done::Sent
        });
    }

    pub(in super::super) fn on_timer(&mut self) {
        self.timer = None;
        let VmPhase::Up(up) = &self.vm else {
            // The timer ends the pause, also if the clock was set back.
            self.record.restart_at = None;
            return;
        };
        if up.draining.is_some() {
            return self.end_drain();
        }
        let why = if up.requested == RequestedAction::Stop {
            "it did not end in time"
        } else if !up.running {
            let why = "its main process did not start in time";
            self.start.failure = self.start.is_last_boot().then(|| why.to_owned());
            why
        } else {
            return;
        };
        self.host.log_line(&self.record, &format!("Killing the VM: {why}"));
        self.end_vm(VmEnd::Unwanted);
    }
}
