//! Apps that autostop has to look at, because something about them changed.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Names of apps to look at. `AppShared::request_idle_check` puts an app in at most
/// once, so it is never longer than the table.
#[derive(Debug, Default)]
pub(crate) struct IdleQueue {
    apps: Mutex<Vec<Arc<str>>>,
    changed: Notify,
}

impl IdleQueue {
    pub(crate) fn push(&self, app: Arc<str>) {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).push(app);
        self.changed.notify_one();
    }

    /// All that are queued now.
    pub(crate) fn take(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.apps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns once something has been queued since the last [`IdleQueue::take`].
    pub(crate) async fn wait(&self) {
        self.changed.notified().await;
    }
}
