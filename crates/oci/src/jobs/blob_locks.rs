//! Locks on layers while they are downloaded: images that share a layer share
//! its file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// One lock per digest.
#[derive(Default)]
pub(crate) struct BlobLocks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl BlobLocks {
    /// Waits for the lock.
    pub(crate) async fn lock(&self, digest: &str) -> OwnedMutexGuard<()> {
        self.entry(digest).lock_owned().await
    }

    /// The lock, if it is free.
    pub(crate) fn try_lock(&self, digest: &str) -> Option<OwnedMutexGuard<()>> {
        self.entry(digest).try_lock_owned().ok()
    }

    fn entry(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A lock that only this map refers to is neither held nor awaited.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(digest.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_has_one_owner_and_is_forgotten_after_it() {
        let locks = BlobLocks::default();
        let first = locks.lock("a").await;
        assert!(locks.try_lock("a").is_none());
        let next = locks.lock("a");
        tokio::pin!(next);
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(first);
        // It passes to the next waiter; no other task can take it in between.
        assert!(locks.try_lock("a").is_none());
        drop(next.await);
        assert!(locks.try_lock("a").is_some());
        drop(locks.lock("b").await);
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
