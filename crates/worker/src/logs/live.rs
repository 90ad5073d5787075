//! Followers of logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use wire::logs::LogEntry;

/// Lines that a slow follower may be behind.
const FOLLOWER_QUEUE: usize = 4096;

/// Followers by app: a flood of one app's lines makes no gaps for another's followers.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<HashMap<String, broadcast::Sender<Arc<LogEntry>>>>);

impl Live {
    pub(super) fn send(&self, app: &str, entry: LogEntry) {
        let mut live = self.lock();
        let unread = live.get(app).is_some_and(|to| to.send(Arc::new(entry)).is_err());
        if unread {
            live.remove(app);
        }
    }

    pub(super) fn subscribe(&self, app: &str) -> broadcast::Receiver<Arc<LogEntry>> {
        let mut live = self.lock();
        let new = || broadcast::channel(FOLLOWER_QUEUE).0;
        live.entry(app.to_owned()).or_insert_with(new).subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Arc<LogEntry>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
