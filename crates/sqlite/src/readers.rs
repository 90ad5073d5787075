//! Reads: each on a blocking thread, with a connection of its own, beside the writer.

use crate::Error;
use rt::failure::{FailureHandler, panic_message};
use rusqlite::{Connection, OpenFlags};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Reads at once; more callers wait. The blocking threads are shared with all other work
/// on files.
pub(crate) const READERS: usize = 8;

/// The connections of readers.
pub(crate) struct Readers {
    path: PathBuf,
    /// Open connections that no read uses; never more than [`READERS`].
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    failures: FailureHandler,
}

impl Readers {
    pub(crate) fn new(path: &Path, failures: FailureHandler) -> Self {
        let turns = Arc::new(Semaphore::new(READERS));
        Self { path: path.into(), idle: Mutex::default(), turns, failures }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// See [`crate::Database::read`].
    pub(crate) async fn read<T, E, F>(self: Arc<Self>, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        // It is never closed.
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let conn = self.take()?;
            match catch_unwind(AssertUnwindSafe(|| work(&conn))) {
                Ok(outcome) => {
                    self.lock().push(conn);
                    outcome
                }
                Err(panic) => {
                    let message = panic_message(&*panic);
                    self.failures.report("a reader of a database", message.clone());
                    Err(Error::Panicked(message).into())
                }
            }
        });
        done.await.map_err(|_| Error::Closed)?
    }

    fn take(&self) -> Result<Connection, Error> {
        let idle = self.lock().pop();
        if let Some(conn) = idle {
            return Ok(conn);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = Connection::open_with_flags(&self.path, flags);
        let conn = open.map_err(|err| Error::Open { path: self.path.clone(), err })?;
        conn.execute_batch("PRAGMA busy_timeout=5000;")?;
        Ok(conn)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections no read uses.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> usize {
        self.lock().len()
    }
}
