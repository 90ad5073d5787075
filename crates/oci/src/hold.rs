//! Who is busy with what, by digest: images that a caller was just given, and
//! layers on their way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// Images that somebody asked for and may not have written down yet.
///
/// Between the answer of `ensure` and the caller's own record of it, nothing
/// but this keeps an image that has no name from being collected.
pub(crate) struct Holds {
    clock: rt::Clock,
    grace_ms: u64,
    held: Mutex<HashMap<String, Held>>,
}

#[derive(Default)]
struct Held {
    asking: usize,
    answered_ms: u64,
}

/// Somebody asks for an image; dropped with the answer.
pub(crate) struct Hold {
    holds: Arc<Holds>,
    digest: String,
}

impl Holds {
    /// An image is held for `grace` after the answer.
    pub(crate) fn new(clock: rt::Clock, grace: Duration) -> Arc<Self> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        Arc::new(Self { clock, grace_ms, held: Mutex::default() })
    }

    /// Holds an image. To be called before the store is asked whether it is there.
    pub(crate) fn hold(self: &Arc<Self>, digest: &str) -> Hold {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry(digest.to_owned()).or_default().asking += 1;
        Hold { holds: Arc::clone(self), digest: digest.to_owned() }
    }

    /// The images that somebody asks for at this moment.
    pub(crate) fn asked(&self) -> Vec<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|(_, held)| held.asking > 0).map(|(digest, _)| digest.clone()).collect()
    }

    /// The images that are held now. To be called with the store locked: who
    /// holds an image later finds it gone, and does not lose it.
    pub(crate) fn now(&self) -> Vec<String> {
        let now = self.clock.now_ms();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock set back makes it longer, never shorter.
        held.retain(|_, held| {
            held.asking > 0 || now.saturating_sub(held.answered_ms) < self.grace_ms
        });
        held.keys().cloned().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let now = self.holds.clock.now_ms();
        let mut held = self.holds.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get_mut(&self.digest) {
            held.asking -= 1;
            held.answered_ms = now;
        }
    }
}

/// One at a time per digest: two images that share a layer share its file.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until nobody else has the turn.
    pub(crate) async fn wait(&self, key: &str) -> OwnedMutexGuard<()> {
        self.of(key).lock_owned().await
    }

    /// The turn, if nobody else has it.
    pub(crate) fn free(&self, key: &str) -> Option<OwnedMutexGuard<()>> {
        self.of(key).try_lock_owned().ok()
    }

    fn of(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One owner is this map itself: nobody has or awaits such a turn.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(key.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_held_while_asked_for_and_some_time_after() {
        let clock = rt::Clock::manual(0);
        let holds = Holds::new(clock.clone(), Duration::from_secs(60));
        let (one, two) = (holds.hold("a"), holds.hold("a"));
        clock.advance(Duration::from_secs(3600));
        drop(one);
        assert_eq!((holds.now(), holds.asked()), (vec!["a".into()], vec!["a".into()]));
        drop(two);
        clock.advance(Duration::from_secs(59));
        assert_eq!((holds.now(), holds.asked()), (vec!["a".into()], vec![]));
        clock.advance(Duration::from_secs(1));
        assert!(holds.now().is_empty());
    }

    #[tokio::test]
    async fn turns_are_one_at_a_time_and_leave_nothing() {
        let turns = Turns::default();
        let turn = turns.wait("a").await;
        assert!(turns.free("a").is_none());
        let next = turns.wait("a");
        tokio::pin!(next);
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(turn);
        // It is handed over; nobody can come in between.
        assert!(turns.free("a").is_none());
        drop(next.await);
        assert!(turns.free("a").is_some());
        drop(turns.wait("b").await);
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
