//! The database itself, and how often a worker has been started with it.

use super::schema::MIGRATIONS;
use rt::FailureHandler;
use sqlite::{Database, Error};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// `host.db`, and the notification that events were committed. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HostDb(pub(super) Database, pub(super) Arc<Notify>);

impl HostDb {
    pub(crate) fn open(path: &Path, failures: FailureHandler) -> Result<Self, Error> {
        let db = Database::open_with(path, MIGRATIONS, failures)?;
        Ok(Self(db, Arc::default()))
    }

    /// Notified after each commit that may have added events.
    pub(crate) fn events_committed(&self) -> &Notify {
        &self.1
    }

    /// No worker has been started with this database, and it names no machine.
    pub(crate) async fn is_unused(&self) -> Result<bool, Error> {
        let sql = "SELECT (SELECT max(epoch) FROM starts) = 0
                   AND NOT EXISTS (SELECT 1 FROM machines)";
        self.0
            .read(move |conn| conn.query_row(sql, [], |row| row.get(0)).map_err(Error::from))
            .await
    }

    /// Counts this start of the worker.
    pub(crate) async fn next_epoch(&self) -> Result<u64, Error> {
        let sql = "UPDATE starts SET epoch = epoch + 1 RETURNING epoch";
        let next = self.0.write(move |conn| {
            conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(Error::from)
        });
        Ok(u64::try_from(next.await?).unwrap_or(0))
    }
}
