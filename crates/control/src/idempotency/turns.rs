//! One request of a key at a time.

use super::RequestId;
use super::kept::Kept;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Requests that are carried out now, by their identity.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    locks: Mutex<HashMap<RequestId, Weak<tokio::sync::Mutex<()>>>>,
    /// Records that are kept.
    kept: Kept,
}

impl Turns {
    /// The lock that requests of this identity take in turn.
    pub(crate) fn lock_of(&self, id: &RequestId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::<tokio::sync::Mutex<()>>::default();
        locks.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }

    /// How many records are kept.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_lock_for_one_identity_as_long_as_it_is_used() {
        let turns = Turns::default();
        let id = |key: &str| RequestId::new("caller", key);
        let first = turns.lock_of(&id("a"));
        assert!(Arc::ptr_eq(&first, &turns.lock_of(&id("a"))));
        assert!(!Arc::ptr_eq(&first, &turns.lock_of(&id("b"))));
        drop(first);
        turns.lock_of(&id("c"));
        assert_eq!(turns.locks.lock().unwrap().len(), 1, "unused locks are dropped");
    }
}
