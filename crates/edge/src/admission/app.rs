//! What all cores share about an app, for as long as it is in the table.

use crate::admission::idle_queue::IdleQueue;
use crate::http::code::Code;
use crate::metrics::AppMetrics;
use crate::table::host::FollowedHosts;
use model::id::AppId;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What all cores share about an app.
#[derive(Debug)]
pub(crate) struct AppShared {
    pub(crate) id: AppId,
    pub(crate) name: Arc<str>,
    /// Requests held.
    pub(crate) waiting: AtomicUsize,
    /// Notified when something changed that a held request may wait for.
    pub(crate) changed: Notify,
    /// Codes of failures logged recently, and when.
    pub(crate) failures_logged: Mutex<Vec<(Code, Instant)>>,
    /// Milliseconds of the edge's life at which "still waiting" was last logged.
    pub(crate) waiting_logged_at: AtomicU64,
    pub(crate) metrics: AppMetrics,
    idle_queue: Arc<IdleQueue>,
    /// It is in the idle queue.
    idle_check_queued: AtomicBool,
}

impl AppShared {
    pub(crate) fn new(
        id: AppId,
        name: Arc<str>,
        metrics: AppMetrics,
        idle_queue: Arc<IdleQueue>,
    ) -> Self {
        Self {
            id,
            name,
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            failures_logged: Mutex::default(),
            waiting_logged_at: AtomicU64::new(0),
            metrics,
            idle_queue,
            idle_check_queued: AtomicBool::new(false),
        }
    }

    /// Has autostop look at this app soon.
    pub(crate) fn request_idle_check(&self) {
        if !self.idle_check_queued.swap(true, SeqCst) {
            self.idle_queue.push(self.name.clone());
        }
    }

    /// Autostop is about to look; whatever changes from here on needs another look.
    pub(crate) fn begin_idle_check(&self) {
        self.idle_check_queued.store(false, SeqCst);
    }

    /// Adds a line about the app to its log, at a host that can be reached now.
    pub(crate) fn log(&self, hosts: &FollowedHosts, level: &str, message: String) {
        hosts.log(self.id, level, message);
    }
}
