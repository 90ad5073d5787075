//! `store::Store` on SQLite, as kine does it for k3s: one table holds every
//! write of every key that has not been compacted, a revision each.
//!
//! Invariants:
//! - revisions have no holes and are handed out inside the transaction that
//!   uses them, so a revision that can be read has been committed, and so have
//!   all before it;
//! - a watch reads only the table; the channel signals *when* to look, never
//!   *what* happened, so nothing can be missed, doubled or out of order.

mod leases;
mod rows;
mod txn;
mod watch;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use rows::Fault;
use sqlite::Database;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::*;
use tokio::sync::{Notify, watch as channel};

const MIGRATIONS: &[&str] = &["
    CREATE TABLE kv (
        rev INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, deleted INTEGER NOT NULL,
        created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX kv_key ON kv (key, rev);
    CREATE INDEX kv_rev ON kv (rev, key);
    CREATE TABLE lease (
        id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_ms INTEGER NOT NULL, ends_ms INTEGER NOT NULL
    );
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL
    );
    INSERT INTO meta VALUES (1, 0, 0);
"];

/// The global state in one SQLite file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    db: Database,
    clock: rt::Clock,
    tasks: rt::Tasks,
    /// Highest revision known to be committed.
    newest: Arc<channel::Sender<Revision>>,
    /// A lease has been granted: the next expiry may be earlier.
    granted: Arc<Notify>,
}

impl SqliteStore {
    /// Opens or makes the store at `path`. Leases end by `clock`; `tasks` owns
    /// what runs in the background, among it the deletion of ended leases.
    ///
    /// # Errors
    /// The file cannot be opened or is not such a store.
    pub fn open(path: &Path, clock: rt::Clock, tasks: &rt::Tasks) -> Result<Self, sqlite::Error> {
        let store = Self {
            db: Database::open_with(path, MIGRATIONS, tasks.failure_handler())?,
            clock,
            tasks: tasks.clone(),
            newest: Arc::new(channel::Sender::new(0)),
            granted: Arc::default(),
        };
        tasks.spawn_until_stop(leases::expire_forever(store.clone()));
        Ok(store)
    }

    /// Deletes the keys of all leases that have ended by now, each lease's as
    /// one transaction. Runs by itself; callable for tests with a manual clock.
    ///
    /// # Errors
    /// The database failed.
    pub async fn expire_leases(&self) -> Result<(), StoreError> {
        leases::expire(self).await
    }

    /// Does `work` in a transaction and notifies the watches of its revision.
    ///
    /// It continues in a task if the caller is dropped: once the work is
    /// queued it will be committed, and then the watches have to be notified.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<(T, Revision), Fault> + Send + 'static,
    {
        let store = self.clone();
        let written = self.tasks.spawn(async move {
            let (value, revision) = store.db.write(work).await?;
            store.newest.send_if_modified(|newest| {
                let grows = revision > *newest;
                *newest = revision.max(*newest);
                grows
            });
            Ok::<T, Fault>(value)
        });
        let outcome = written.await.map_err(|err| StoreError::Failed(err.into()))?;
        outcome.map_err(StoreError::from)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn range(
        &self,
        range: KeyRange,
        at: Option<Revision>,
        limit: Option<usize>,
    ) -> Result<RangeResult, StoreError> {
        let read = move |conn: &rusqlite::Connection| {
            // One read transaction, so that revision and rows are of one moment.
            let view = conn.unchecked_transaction()?;
            rows::range(&view, &range, at, limit)
        };
        Ok(self.db.read(read).await?)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        txn::check(&txn)?;
        let now_ms = self.clock.now_ms();
        self.write(move |conn| {
            let result = txn::apply(conn, &txn, now_ms)?;
            let revision = result.revision;
            Ok((result, revision))
        })
        .await
    }

    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
        watch::start(self, range, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = leases::grant(self, ttl).await?;
        self.granted.notify_one();
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        leases::keep_alive(self, lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        leases::revoke(self, lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.write(move |conn| rows::compact(conn, revision).map(|()| ((), 0))).await
    }
}
