//! What one request has been through while it looks for a machine.

use crate::admission::machine::{Machine, PendingWake};
use crate::admission::permit::Permit;
use crate::config::EdgeConfig;
use crate::http::code::Code;
use crate::http::failure::Failure;
use crate::http::timing::Timestamps;
use host_api::WakeRefused;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Attempts before a request is given up (fly.io/docs/monitoring/error-codes, PR03).
const ATTEMPTS: u32 = 90;
/// Wakes one request may cause, not counting those undone by a stop: a stop is no
/// reason to think that the machine cannot start.
pub(super) const WAKES: usize = 4;

/// What one request has been through.
#[derive(Debug)]
pub(crate) struct RequestAttempt {
    pub(crate) timestamps: Timestamps,
    /// Since when it has been held, on and off.
    pub(super) held_since: Option<Instant>,
    failures: u32,
    /// Since when machines that seem up have failed it, without a wake between.
    failing_since: Option<Instant>,
    pub(super) last: Option<Failure>,
    /// Machines not to be tried next.
    pub(super) avoid: Vec<Arc<Machine>>,
    /// Machines that have come up, and that no request has been able to connect to
    /// yet: for this request they are still starting.
    pub(super) settling: Vec<Arc<Machine>>,
    /// Its place at one of them until it is counted as held: without either,
    /// autostop would take that machine for idle.
    pub(super) kept: Option<Permit>,
    /// Machines that could not be woken.
    refused: Vec<Arc<Machine>>,
    pending_wakes: Vec<(Arc<Machine>, PendingWake)>,
    /// Machines it has woken, and how often each had been asked to stop then.
    woken: Vec<(Arc<Machine>, u64)>,
    pub(super) backoff: rt::Backoff,
    /// Pauses while a machine settles.
    pub(super) quick: rt::Backoff,
    pub(super) full_since: Option<Instant>,
    /// The limits are of type `connections`.
    pub(super) counts_connections: bool,
}

impl RequestAttempt {
    pub(crate) fn new() -> Self {
        Self {
            timestamps: Timestamps::new(),
            held_since: None,
            failures: 0,
            failing_since: None,
            last: None,
            avoid: Vec::new(),
            settling: Vec::new(),
            kept: None,
            refused: Vec::new(),
            pending_wakes: Vec::new(),
            woken: Vec::new(),
            backoff: rt::Backoff::new(Duration::from_millis(20), Duration::from_secs(1)),
            quick: rt::Backoff::new(Duration::from_millis(1), Duration::from_millis(50)),
            full_since: None,
            counts_connections: false,
        }
    }

    pub(super) fn over_limit(&self, why: String) -> Failure {
        Failure::new(if self.counts_connections { Code::Pl01 } else { Code::Pl02 }, why)
    }

    /// A machine that seemed up has failed the request, which can be repeated.
    pub(crate) fn record_failure(
        &mut self,
        machine: &Arc<Machine>,
        failure: Failure,
        limit: Duration,
    ) -> Result<(), Failure> {
        self.failures += 1;
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if self.failures >= ATTEMPTS {
            let detail = format!("gave up after {ATTEMPTS} attempts; last: {}", failure.line());
            return Err(Failure::new(Code::Pr03, detail).on(machine.id));
        }
        if since.elapsed() > limit {
            return Err(failure);
        }
        self.avoid.push(machine.clone());
        self.last = Some(failure);
        Ok(())
    }

    /// A machine has announced its port, and no request has been able to connect
    /// since it came up: its guest may be about to run. That is no failure, and a
    /// request that waits for a wake does not fail by it before the wake's time is
    /// over; others have the time of any failure.
    pub(crate) fn record_not_ready(
        &mut self,
        permit: Permit,
        failure: Failure,
        config: &EdgeConfig,
    ) -> Result<(), Failure> {
        let (since, limit) = match self.timestamps.waits_since() {
            Some(since) => (since, config.wake_timeout),
            None => (*self.failing_since.get_or_insert_with(Instant::now), config.retry_for),
        };
        if since.elapsed() > limit {
            return Err(failure);
        }
        self.settling.push(permit.machine.clone());
        self.kept = Some(permit);
        self.last = Some(failure);
        Ok(())
    }

    pub(super) fn is_settling(&self, machine: &Arc<Machine>) -> bool {
        self.settling.iter().any(|m| Arc::ptr_eq(m, machine))
    }

    pub(super) fn excludes(&self, machine: &Arc<Machine>) -> bool {
        self.avoid.iter().chain(&self.refused).any(|m| Arc::ptr_eq(m, machine))
    }

    pub(super) fn join(&mut self, machine: &Arc<Machine>, wake: PendingWake) {
        if !self.pending_wakes.iter().any(|(_, known)| known.same_channel(&wake)) {
            self.pending_wakes.push((machine.clone(), wake));
        }
    }

    /// Collects finished wakes and remembers machines that could not be woken.
    pub(super) fn reap_finished(&mut self) {
        let Self { pending_wakes, refused, last, .. } = self;
        pending_wakes.retain(|(machine, wake)| {
            let refusal = match &*wake.borrow() {
                None => return true,
                Some(Ok(())) => return false,
                Some(Err(refusal)) => refusal.clone(),
            };
            *last = Some(wake_failure(&refusal).on(machine.id));
            refused.push(machine.clone());
            false
        });
    }

    /// Counts a wake of `machine`, and how many count now. Earlier ones do not if
    /// a stop has undone them. Two may lead to one start, as where a core's table
    /// trails, so that is one stop for all.
    pub(super) fn may_wake(&mut self, machine: &Arc<Machine>) -> bool {
        let stops = machine.stop_count();
        self.woken.retain(|(woken, then)| !Arc::ptr_eq(woken, machine) || *then == stops);
        if self.woken.len() == WAKES {
            return false;
        }
        self.woken.push((machine.clone(), stops));
        true
    }

    /// It now waits for a start, so earlier failures no longer count.
    pub(super) fn record_starting(&mut self) {
        self.timestamps.record_wait();
        self.failing_since = None;
    }
}

fn wake_failure(refusal: &WakeRefused) -> Failure {
    match refusal {
        WakeRefused::Gone => Failure::new(Code::Pr02, "the machine is gone"),
        WakeRefused::NotStartable(why) => {
            Failure::new(Code::Pm08, format!("the machine cannot be started: {why}"))
        }
        WakeRefused::NoCapacity(why) => {
            Failure::new(Code::Pm07, format!("the host has no room for the machine: {why}"))
        }
        WakeRefused::Failed(why) => {
            Failure::new(Code::Pm07, format!("the machine failed to start: {why}"))
        }
        WakeRefused::Unavailable(why) => {
            Failure::new(Code::Pu03, format!("the machine's host could not be asked: {why}"))
        }
    }
}
