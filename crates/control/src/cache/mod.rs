//! Records of the store in memory, so that a call finds its app, its machine and its
//! token without reading the store.
//!
//! Invariants:
//! - The tables show the store at one revision, or are not used. [`follow`] fills them
//!   and applies every later transaction in order, from the store's watch; where one is
//!   missing it fills them again.
//! - A read sees at least the newest revision that any answer of the store has shown to
//!   this process ([`TrackedStore`]): its own writes among them. It waits for a moment
//!   until the tables are there; then it goes to the store.
//! - What another process has written arrives with the watch, a little later. A caller
//!   that acts on an owner that is out of date is refused by the host, and reads the
//!   store.

mod follow;
mod tables;
#[cfg(test)]
mod tests;
mod tracked_store;

pub(crate) use follow::follow;
pub(crate) use tables::{Cached, Known, Ownership};
pub(crate) use tracked_store::TrackedStore;

use model::id::AppId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use store::records::{self, AppRecord, Stored};
use store::{Change, Revision, WatchBatch};
use tables::Tables;
use tokio::sync::watch;

/// Longest wait of a read for the tables to show what this process has seen.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Records in memory. Empty until [`follow`] runs.
#[derive(Debug)]
pub(crate) struct RecordsCache {
    state: RwLock<State>,
    /// Newest revision that an answer of the store has shown to this process.
    seen: AtomicU64,
    /// Revision of the tables, for those that wait for it.
    applied: watch::Sender<Option<Revision>>,
    /// Counts the times that tokens or members of organizations may have changed.
    access: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    /// Revision of the store that the tables show; `None`: they are not to be used.
    revision: Option<Revision>,
}

impl Default for RecordsCache {
    fn default() -> Self {
        Self {
            state: RwLock::default(),
            seen: AtomicU64::new(0),
            applied: watch::Sender::new(None),
            access: watch::Sender::new(0),
        }
    }
}

impl RecordsCache {
    /// The record of a key, as of now or of the newest revision that this process has
    /// seen.
    pub(crate) async fn get<T: Cached>(&self, key: &str) -> Known<T> {
        self.read(|tables| tables.get(key)).await.unwrap_or(Known::Unknown)
    }

    /// The record of the app with a number, likewise.
    pub(crate) async fn app_by_id(&self, id: AppId) -> Known<AppRecord> {
        self.read(|tables| tables.app_by_id(id)).await.unwrap_or(Known::Unknown)
    }

    /// The records below a prefix that are wanted, likewise. `None`: the store has to be asked.
    pub(crate) async fn below<T: Cached>(
        &self,
        prefix: &str,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<Vec<Stored<T>>> {
        self.read(|tables| tables.below(prefix, &wanted)).await.flatten()
    }

    /// Receives whenever a token or the member of an organization may have changed.
    pub(crate) fn access_changes(&self) -> watch::Receiver<u64> {
        self.access.subscribe()
    }

    /// `None` while the tables are not to be used.
    async fn read<T>(&self, read: impl Fn(&Tables) -> T) -> Option<T> {
        let seen = self.seen.load(Ordering::Acquire);
        if let Some(found) = self.look_up(&read, seen) {
            return found;
        }
        let mut applied = self.applied.subscribe();
        let is_there = |at: &Option<Revision>| at.is_none_or(|at| at >= seen);
        // What `wait_for` returns is a lock, and a change takes it after that of the tables:
        // it is released before the tables are read.
        let late = tokio::time::timeout(CATCH_UP, applied.wait_for(is_there)).await.is_err();
        if late {
            tracing::warn!(
                revision = seen,
                "the watch of the store is late; records are read from it"
            );
            self.discard();
        }
        self.look_up(&read, seen).flatten()
    }

    /// `None` if the tables do not show `seen` yet.
    fn look_up<T>(&self, read: impl Fn(&Tables) -> T, seen: Revision) -> Option<Option<T>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match state.revision {
            None => Some(None),
            Some(at) if at < seen => None,
            Some(_) => Some(Some(read(&state.tables))),
        }
    }

    /// An answer of the store has shown this revision.
    fn note(&self, revision: Revision) {
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }

    /// The tables are these, as of a revision.
    fn fill(&self, tables: Tables, revision: Revision) {
        self.change(|state| *state = State { tables, revision: Some(revision) });
        self.note_access();
    }

    /// The tables are not to be used any more.
    fn discard(&self) {
        self.change(|state| *state = State::default());
        self.note_access();
    }

    /// Applies a transaction; false if it does not follow the one before, or the tables
    /// have been discarded.
    fn apply(&self, batch: &WatchBatch) -> bool {
        let follows = self.change(|state| {
            let follows = state.revision.is_some_and(|at| at + 1 == batch.revision);
            if follows {
                batch.changes.iter().for_each(|change| state.tables.apply(change));
                state.revision = Some(batch.revision);
            }
            follows
        });
        if batch.changes.iter().any(is_access) {
            self.note_access();
        }
        follows
    }

    /// After the tables have been changed, so that a reader who is woken sees the change.
    fn note_access(&self) {
        self.access.send_modify(|count| *count += 1);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut state);
        // While the lock is held, so that the signals are in the order of the changes.
        self.applied.send_replace(state.revision);
        done
    }
}

fn is_access(change: &Change) -> bool {
    let key = match change {
        Change::Put(kv) => kv.key.as_str(),
        Change::Deleted(key) => key,
    };
    key.starts_with(records::TOKENS) || key.starts_with(records::MEMBERS)
}
