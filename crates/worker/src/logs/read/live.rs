//! Followers of logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use wire::logs::LogEntry;

/// Lines that a slow follower may be behind.
const FOLLOWER_QUEUE: usize = 4096;

/// Followers by app: a flood of one app's lines makes no gaps for another's followers.
#[derive(Debug, Default)]
pub(in crate::logs) struct Live(Mutex<HashMap<String, broadcast::Sender<Arc<LogEntry>>>>);

impl Live {
    pub(in crate::logs) fn is_followed(&self, app: &str) -> bool {
        self.lock().contains_key(app)
    }

    pub(in crate::logs) fn send(&self, app: &str, entry: LogEntry) {
        if let Some(followers) = self.lock().get(app) {
            // Without followers it is removed with the last of them.
            let _ = followers.send(Arc::new(entry));
        }
    }

    pub(in crate::logs) fn follow(self: &Arc<Self>, app: &str) -> Follower {
        let new = || broadcast::channel(FOLLOWER_QUEUE).0;
        let lines = self.lock().entry(app.to_owned()).or_insert_with(new).subscribe();
        Follower { lines: Some(lines), app: app.into(), live: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Arc<LogEntry>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A follower of one app's lines. The queue of an app is removed with its last follower.
pub(in crate::logs) struct Follower {
    /// `None` only while it is dropped.
    lines: Option<broadcast::Receiver<Arc<LogEntry>>>,
    app: String,
    live: Arc<Live>,
}

/// What a follower gets.
pub(super) enum Next {
    Line(Arc<LogEntry>),
    /// It was too slow: lines are missing here, which have to be read from the files.
    Behind,
    /// The log is closed.
    End,
}

impl Follower {
    pub(super) async fn next(&mut self) -> Next {
        let Some(lines) = self.lines.as_mut() else { return Next::End };
        match lines.recv().await {
            Ok(entry) => Next::Line(entry),
            Err(broadcast::error::RecvError::Lagged(_)) => Next::Behind,
            Err(broadcast::error::RecvError::Closed) => Next::End,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut live = self.live.lock();
        self.lines = None;
        if live.get(&self.app).is_some_and(|followers| followers.receiver_count() == 0) {
            live.remove(&self.app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_an_app_ends_with_its_last_follower() {
        let live = Arc::new(Live::default());
        let (first, second) = (live.follow("web"), live.follow("web"));
        drop(first);
        assert_eq!(live.lock().len(), 1);
        drop(second);
        assert!(live.lock().is_empty());
    }
}
