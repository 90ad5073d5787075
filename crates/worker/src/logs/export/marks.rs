//! How far each export has come, in memory: what the retention may cut without a loss.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The number of the last line that was delivered, by log.
pub(super) type Cursors = BTreeMap<String, u64>;

/// How far each export has come, and the notification that lines were written.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    sinks: Mutex<BTreeMap<String, Cursors>>,
    written: watch::Sender<()>,
}

impl Marks {
    /// Notifies exports that lines were written.
    pub(in crate::logs) fn notify(&self) {
        self.written.send_replace(());
    }

    pub(super) fn written(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    /// The number up to which every export has delivered a log; `None` without exports.
    pub(in crate::logs) fn least(&self, log: &str) -> Option<u64> {
        self.lock().values().map(|cursors| cursors.get(log).copied().unwrap_or(0)).min()
    }

    pub(super) fn set(&self, sink: &str, cursors: Cursors) {
        self.lock().insert(sink.to_owned(), cursors);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Cursors>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
