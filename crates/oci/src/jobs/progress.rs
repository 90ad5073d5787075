//! Progress of one step of a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use worker::ports::Progress;

/// Adds up the bytes of one step, from many threads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ProgressMeter {
    progress: Progress,
    step: &'static str,
    done: Arc<AtomicU64>,
    total: u64,
}

impl ProgressMeter {
    /// A step of `total` bytes; 0 if unknown.
    pub(crate) fn new(progress: &Progress, step: &'static str, total: u64) -> Self {
        Self { progress: Arc::clone(progress), step, done: Arc::default(), total }
    }

    /// Adds `n` bytes.
    pub(crate) fn add(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        // A download that starts again is counted twice.
        let shown = if self.total == 0 { done } else { done.min(self.total) };
        (self.progress)(self.step, shown, self.total);
    }
}
