//! How many jobs of a kind run and wait at the same time. A job may take three
//! times the size of an image on disk, so their number is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use worker::ports::{ImageError, PortError};

/// The limits of one kind of job.
pub(crate) struct Admission {
    kind: &'static str,
    running: Arc<Semaphore>,
    parallel: usize,
    waiting: AtomicUsize,
    queue: usize,
}

/// Counts a job that waits, until it runs or is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Lets `parallel` jobs run and `queue` more wait. `kind` names them in the plural.
    pub(crate) fn new(kind: &'static str, parallel: usize, queue: usize) -> Self {
        let parallel = parallel.max(1);
        let running = Arc::new(Semaphore::new(parallel));
        Self { kind, running, parallel, waiting: AtomicUsize::new(0), queue }
    }

    /// Waits until the job may run; it runs until the permit is dropped.
    ///
    /// # Errors
    /// Too many jobs wait already. The error is transient.
    pub(crate) async fn admit(&self) -> Result<Option<OwnedSemaphorePermit>, ImageError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Some(permit));
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.queue {
            let Self { kind, parallel, queue, .. } = self;
            let problem = format!(
                "too many {kind} of images: {parallel} run and {queue} wait already; try again later"
            );
            return Err(PortError::plain(problem).transient().into());
        }
        // The semaphore is never closed.
        Ok(Arc::clone(&self.running).acquire_owned().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_beyond_the_limits_wait_or_are_refused() {
        let admission = Admission::new("imports", 1, 1);
        let first = admission.admit().await.unwrap();
        let second = admission.admit();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        let third = admission.admit().await.unwrap_err();
        assert_eq!(
            third.to_string(),
            "too many imports of images: 1 run and 1 wait already; try again later"
        );
        assert!(matches!(third, ImageError::Failed(error) if error.transient));
        drop(first);
        drop(second.await.unwrap());
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
        assert!(admission.admit().await.unwrap().is_some());
    }
}
