//! How a VM is brought to its end: between two requests if there is time, by
//! its main process if that listens, by force if not.

use super::change::SIGKILL;
use super::launch::{self, Ending};
use super::step::Asked;
use super::suspend::DRAIN;
use super::{Done, Now, Task};
use crate::record::{Persist, StopOrder};
use guest_protocol::ToGuest;
use model::life::State;
use std::time::Duration;
use tokio::time::Instant;

/// Beyond a stop's own timeout, for the guest to report the end.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Why a VM is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its main process has ended.
    Exited,
    /// It has ended by itself.
    Lost,
    /// Nobody wants it, or it does not do what it should.
    Useless,
}

impl Task {
    /// The VM is of no more use. Its guest flushes its disks only where they
    /// outlive it; otherwise the kill is as good and faster.
    pub(super) fn end_vm(&mut self, end: End) {
        if !matches!(self.vm, Now::Up(_)) {
            // How it is to end has been decided already.
            return;
        }
        let Now::Up(up) = std::mem::replace(&mut self.vm, Now::Absent) else { return };
        self.timer = None;
        let persists = self.record.persist() != Persist::Never;
        let written = end == End::Exited || (end == End::Useless && up.running);
        let agent = (persists && written).then(|| up.agent.clone());
        // Who has ended by itself has last words, which are worth a short wait.
        let exited = (agent.is_some() || end == End::Lost).then_some(up.exited);
        self.vm = Now::Remains(Ending { agent, exited, rests: true });
        self.show(|view| view.listening.clear());
    }

    pub(super) fn begin_clear(&mut self) {
        self.end_vm(End::Useless);
        let mut ending = match std::mem::replace(&mut self.vm, Now::Clearing) {
            Now::Remains(ending) => ending,
            // One that stands still has nothing to say.
            Now::Saved(_) => Ending { rests: true, ..Ending::unknown() },
            _ => Ending::unknown(),
        };
        ending.rests &= self.record.state != State::Destroying && !self.host_was_away;
        let clear = launch::clear(self.host.clone(), self.record.clone(), ending);
        self.effects.spawn(async move { Done::Cleared(clear.await) });
    }

    /// Begins the end of the main process: between two requests, if it serves
    /// any and there is time for that.
    pub(super) fn begin_stop(&mut self) {
        let order = self.stop_order();
        let patient = order.signal != SIGKILL && order.timeout_ms > 0;
        let drain = patient && self.is_routed_to();
        let Now::Up(up) = &mut self.vm else { return };
        up.asked = Asked::Stop;
        up.draining = drain;
        if drain {
            self.timer = Some(Instant::now() + DRAIN);
        } else {
            self.ask_to_stop();
        }
    }

    /// The edge has nothing in flight any more, or has had its time.
    pub(super) fn end_drain(&mut self) {
        let Now::Up(up) = &mut self.vm else { return };
        if std::mem::replace(&mut up.draining, false) {
            match up.asked {
                Asked::Suspend => self.begin_save(),
                Asked::Stop | Asked::Nothing => self.ask_to_stop(),
            }
        }
    }

    pub(super) fn ask_to_stop(&mut self) {
        let order = self.stop_order();
        self.timer = Some(Instant::now() + Duration::from_millis(order.timeout_ms) + STOP_GRACE);
        self.say(ToGuest::Stop { signal: order.signal, timeout_ms: order.timeout_ms });
    }

    pub(super) fn stop_order(&self) -> StopOrder {
        self.record.stop.unwrap_or_else(|| self.record.stop_order(None, None))
    }

    /// Says something to the guest without waiting for it to be read.
    pub(super) fn say(&mut self, message: ToGuest) {
        let Now::Up(up) = &self.vm else { return };
        let agent = up.agent.clone();
        self.effects.spawn(async move {
            // A guest that does not read is ended by the deadline of its state.
            let _ = tokio::time::timeout(STOP_GRACE, agent.say(&message)).await;
            Done::Said
        });
    }

    pub(super) fn on_timer(&mut self) {
        self.timer = None;
        // The pause is over by the timer, also if the clock was set back.
        self.record.restart_at = None;
        let Now::Up(up) = &self.vm else { return };
        if up.draining {
            return self.end_drain();
        }
        let what = if up.asked == Asked::Stop {
            "it did not end in time"
        } else if !up.running {
            self.failure =
                self.is_last_try().then(|| "its main process did not start in time".to_owned());
            "its main process did not start in time"
        } else {
            return;
        };
        self.host.say(&self.record, &format!("Killing the VM: {what}"));
        self.end_vm(End::Useless);
    }
}
