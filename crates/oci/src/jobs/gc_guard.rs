//! Protection of images from garbage collection while callers ask for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Images that were asked for and may not be recorded by the caller yet.
///
/// Between the answer of `ensure` and the caller's own record, nothing else
/// keeps an image without a name from being collected.
pub(crate) struct GcGuards {
    clock: rt::Clock,
    grace_ms: u64,
    guarded: Mutex<HashMap<String, Guarded>>,
}

#[derive(Default)]
struct Guarded {
    /// Calls that have no answer yet.
    calls: usize,
    /// When the last call with a grace period was answered.
    answered_ms: Option<u64>,
}

/// Protects an image during a call or a job, and for the grace period after a call.
pub(crate) struct GcGuard {
    guards: Arc<GcGuards>,
    digest: String,
    grace: bool,
}

impl GcGuards {
    /// Guards that last for `grace` after the answer.
    pub(crate) fn new(clock: rt::Clock, grace: Duration) -> Arc<Self> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        Arc::new(Self { clock, grace_ms, guarded: Mutex::default() })
    }

    /// Guards an image during a call and for the grace period after it. To be
    /// called before the store is asked for the image.
    pub(crate) fn guard(self: &Arc<Self>, digest: &str) -> GcGuard {
        self.with_grace(digest, true)
    }

    /// Guards an image during a job that records its name.
    pub(crate) fn guard_job(self: &Arc<Self>, digest: &str) -> GcGuard {
        self.with_grace(digest, false)
    }

    fn with_grace(self: &Arc<Self>, digest: &str, grace: bool) -> GcGuard {
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        guarded.entry(digest.to_owned()).or_default().calls += 1;
        GcGuard { guards: Arc::clone(self), digest: digest.to_owned(), grace }
    }

    /// Whether a call uses the image at this moment.
    pub(crate) fn in_call(&self, digest: &str) -> bool {
        let guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        guarded.get(digest).is_some_and(|guarded| guarded.calls > 0)
    }

    /// The guarded images. To be called with the store locked: a call that
    /// guards an image later finds it removed, instead of losing it.
    pub(crate) fn guarded(&self) -> Vec<String> {
        let now = self.clock.now_ms();
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that is set back makes the grace period longer, never shorter.
        guarded.retain(|_, guarded| {
            let within = |answered: u64| now.saturating_sub(answered) < self.grace_ms;
            guarded.calls > 0 || guarded.answered_ms.is_some_and(within)
        });
        guarded.keys().cloned().collect()
    }
}

impl Drop for GcGuard {
    fn drop(&mut self) {
        let now = self.guards.clock.now_ms();
        let mut guarded = self.guards.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guarded) = guarded.get_mut(&self.digest) {
            guarded.calls -= 1;
            if self.grace {
                guarded.answered_ms = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_guarded_during_a_call_and_for_some_time_after() {
        let clock = rt::Clock::manual(0);
        let guards = GcGuards::new(clock.clone(), Duration::from_secs(60));
        let (one, two) = (guards.guard("a"), guards.guard("a"));
        clock.advance(Duration::from_secs(3600));
        drop(one);
        assert_eq!((guards.guarded(), guards.in_call("a")), (vec!["a".into()], true));
        drop(two);
        clock.advance(Duration::from_secs(59));
        assert_eq!((guards.guarded(), guards.in_call("a")), (vec!["a".into()], false));
        clock.advance(Duration::from_secs(1));
        assert!(guards.guarded().is_empty());
        let job = guards.guard_job("b");
        assert_eq!(guards.guarded(), ["b"]);
        drop(job);
        assert!(guards.guarded().is_empty());
    }
}
