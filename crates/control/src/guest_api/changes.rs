//! How often a machine may change itself without a token: each change is made durable by
//! its host and in the store.

use crate::http_api::{Authenticated, FromMachine};
use crate::{Error, Kind};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::id::MachineId;
use rt::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Changes that a machine may make at once.
const BURST: u64 = 20;
/// Time for which one further change is allowed.
const INTERVAL_MS: u64 = 1000;
/// Machines whose entries are kept before the unused ones are removed.
const ENTRIES: usize = 1024;

/// A token bucket per machine, each as the time at which it is full again.
#[derive(Debug)]
pub(super) struct Changes {
    clock: Clock,
    full_at_ms: Mutex<HashMap<MachineId, u64>>,
}

impl Changes {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, full_at_ms: Mutex::default() }
    }

    /// Counts a change of the machine, or returns the milliseconds until the next one is
    /// allowed.
    fn take(&self, machine: MachineId) -> Result<(), u64> {
        let now = self.clock.now_ms();
        let mut buckets = self.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ENTRIES {
            buckets.retain(|_, full_at| *full_at > now);
        }
        let full_at = buckets.entry(machine).or_default();
        // A clock that was set back empties the bucket at most.
        let used = (*full_at).clamp(now, now + BURST * INTERVAL_MS) - now;
        let wait = (used + INTERVAL_MS).saturating_sub(BURST * INTERVAL_MS);
        if wait > 0 {
            return Err(wait);
        }
        *full_at = now + used + INTERVAL_MS;
        Ok(())
    }
}

/// Refuses a change without a token beyond the machine's rate.
pub(super) async fn limit(
    State(changes): State<Arc<Changes>>,
    request: Request,
    next: Next,
) -> Response {
    let machine = request.extensions().get::<FromMachine>().map(|from| from.machine);
    let free = request.method().is_safe() || request.extensions().get::<Authenticated>().is_some();
    let Some(machine) = machine.filter(|_| !free) else { return next.run(request).await };
    match changes.take(machine) {
        Ok(()) => next.run(request).await,
        Err(wait_ms) => {
            let why = format!(
                "without a token a machine may change itself {BURST} times at once and then once \
                 a second"
            );
            let mut refusal = Error::new(Kind::Busy, why).into_response();
            let seconds = HeaderValue::from(wait_ms.div_ceil(1000));
            refusal.headers_mut().insert(header::RETRY_AFTER, seconds);
            refusal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_machine_has_a_burst_and_then_a_change_a_second() {
        let clock = Clock::manual(1_795_000_000_000_000_000);
        let changes = Changes::new(clock.clone());
        let [a, b] = [1, 2].map(MachineId::from_random);
        for _ in 0..BURST {
            assert_eq!(changes.take(a), Ok(()));
        }
        assert_eq!(changes.take(a), Err(1000));
        assert_eq!(changes.take(b), Ok(()), "another machine has its own");
        clock.advance(Duration::from_millis(400));
        assert_eq!(changes.take(a), Err(600));
        clock.advance(Duration::from_millis(600));
        assert_eq!(changes.take(a), Ok(()));
        assert_eq!(changes.take(a), Err(1000), "a refusal costs nothing");
        clock.advance(Duration::from_secs(3600));
        assert_eq!((0..100).filter(|_| changes.take(a).is_ok()).count() as u64, BURST);
    }

    #[test]
    fn machines_that_have_changed_nothing_lately_are_forgotten() {
        let clock = Clock::manual(1_795_000_000_000_000_000);
        let changes = Changes::new(clock.clone());
        for n in 0..5000 {
            assert_eq!(changes.take(MachineId::from_random(n)), Ok(()));
            clock.advance(Duration::from_millis(10));
        }
        let kept = changes.full_at_ms.lock().unwrap().len();
        assert!(kept <= ENTRIES, "{kept}");
    }
}
