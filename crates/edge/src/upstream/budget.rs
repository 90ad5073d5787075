//! How many connections to machines the edge may have open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections to machines of all cores: each may take a descriptor of the
/// process.
#[derive(Debug)]
pub(crate) struct UpstreamBudget {
    free: Arc<Semaphore>,
    /// Requests that wait for a free one.
    waiting: AtomicUsize,
}

/// Counts a request as waiting, while it is.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl UpstreamBudget {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(max)), waiting: AtomicUsize::new(0) }
    }

    /// One connection, if there is a free one now.
    pub(crate) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// One connection, as soon as there is a free one; `None` after `limit`.
    pub(crate) async fn take(&self, limit: Duration) -> Option<OwnedSemaphorePermit> {
        self.waiting.fetch_add(1, SeqCst);
        let _waits = Waits(&self.waiting);
        let taken = tokio::time::timeout(limit, self.free.clone().acquire_owned()).await;
        // It is never closed.
        taken.ok()?.ok()
    }

    /// Requests wait, so no connection is kept for later ones.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }
}
