//! One running import or pull.

use crate::content::disk_space::SpaceBooking;
use std::sync::Arc;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit};

/// What a job holds while it runs. The job's threads share it with its task: a
/// task ends at once when its client leaves, a thread at the end of its step. So
/// the place is taken, and garbage collection leaves the job's files alone, until
/// both have ended.
#[derive(Debug)]
pub(crate) struct Job {
    /// The job's place among those of its kind; `None` if they are not bounded.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
    /// Garbage collection takes the write lock to remove files of no job.
    pub(super) _running: OwnedRwLockReadGuard<()>,
    /// The space that the job may write to.
    pub(crate) space: Arc<SpaceBooking>,
}
