//! One SQLite database with one writer, whose waiting callers share a commit.
//!
//! Invariant: a caller of [`Database::write`] gets its answer only after the
//! transaction that holds its work has been committed with `synchronous=FULL`,
//! so an acknowledged write survives `kill -9` and a power cut.

mod readers;
mod writer;

use readers::Readers;
use rt::FailureHandler;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use writer::Writer;

/// Statements of the writer that are kept parsed; all that a database has are fewer.
const STATEMENTS: usize = 64;
/// A file from before space could be given back is rewritten once if it is not larger.
const CONVERTED: i64 = 256 << 20;

/// Why the database could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or prepared.
    #[error("open database {path}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: rusqlite::Error,
    },
    /// A statement failed.
    #[error("database statement failed")]
    Statement(#[source] rusqlite::Error),
    /// The work is done but could not be made durable: it has not happened.
    #[error("database commit failed: {0}")]
    Commit(String),
    /// The work of a reader panicked: a defect.
    #[error("database work panicked: {0}")]
    Panicked(String),
    /// The writer has ended.
    #[error("database is closed")]
    Closed,
}

impl From<rusqlite::Error> for Error {
    fn from(err: rusqlite::Error) -> Self {
        Self::Statement(err)
    }
}

/// A database. Cheap to clone; dropping the last clone closes it.
#[derive(Clone)]
pub struct Database {
    writer: Writer,
    readers: Arc<Readers>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.readers.path()).finish()
    }
}

impl Database {
    /// Opens or makes the database at `path` and brings it to the newest of
    /// `migrations`; each is SQL that is run once, in order, in a transaction.
    ///
    /// # Errors
    /// The file cannot be opened, is no database, is newer than this program,
    /// or a migration fails.
    pub fn open(path: &Path, migrations: &[&str]) -> Result<Self, Error> {
        Self::open_with(path, migrations, FailureHandler::abort())
    }

    /// The same with a handler for panics in the work of callers: a panic is a defect
    /// that may have left half of its work done, so the writer stops.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_with(
        path: &Path,
        migrations: &[&str],
        failures: FailureHandler,
    ) -> Result<Self, Error> {
        let failed = |err| Error::Open { path: path.into(), err };
        let mut writer = Connection::open(path).map_err(failed)?;
        allow_shrinking(&writer).map_err(failed)?;
        writer
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
                 PRAGMA busy_timeout=5000; PRAGMA wal_autocheckpoint=1000;",
            )
            .map_err(failed)?;
        migrate(&mut writer, migrations).map_err(failed)?;
        writer.set_prepared_statement_cache_capacity(STATEMENTS);
        let writer = Writer::start(writer, failures.clone())
            .map_err(|err| failed(rusqlite::Error::ToSqlConversionFailure(err.into())))?;
        Ok(Self { writer, readers: Arc::new(Readers::new(path, failures)) })
    }

    /// Runs `work` in a transaction that is shared with other callers and
    /// answers once it is durable. An `Err` of `work` undoes its own part only.
    ///
    /// # Errors
    /// Those of `work`; a failed commit; a closed database.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Runs `work` on a read-only view of what has been committed. A bounded
    /// number of reads run at once; more wait.
    ///
    /// # Errors
    /// Those of `work`, or no connection could be opened.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.readers.clone().read(work).await
    }
}

/// Lets `PRAGMA incremental_vacuum` give free pages back to the file system
/// (<https://www.sqlite.org/pragma.html#pragma_auto_vacuum>). A file that already has
/// tables has to be rewritten for that.
fn allow_shrinking(conn: &Connection) -> Result<(), rusqlite::Error> {
    const INCREMENTAL: i64 = 2;
    let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if number("auto_vacuum")? == INCREMENTAL {
        return Ok(());
    }
    conn.execute_batch("PRAGMA auto_vacuum=INCREMENTAL;")?;
    let pages = number("page_count")?;
    // A large file keeps its form: it would delay the start by minutes.
    if pages > 0 && pages.saturating_mul(number("page_size")?) <= CONVERTED {
        // Best effort: a full disk must not keep the database from being opened. The next
        // start tries again.
        let _ = conn.execute_batch("VACUUM;");
    }
    Ok(())
}

fn migrate(conn: &mut Connection, migrations: &[&str]) -> Result<(), rusqlite::Error> {
    let tx = conn.transaction()?;
    let done: u32 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = done as usize;
    if done > migrations.len() {
        let text = format!("it has schema {done}, this program knows {}", migrations.len());
        return Err(rusqlite::Error::ToSqlConversionFailure(text.into()));
    }
    for sql in &migrations[done..] {
        tx.execute_batch(sql)?;
    }
    tx.pragma_update(None, "user_version", migrations.len() as u32)?;
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::readers::READERS;
    use super::*;
    use std::sync::mpsc;

    const SCHEMA: &[&str] = &["CREATE TABLE t (n INTEGER PRIMARY KEY)"];

    async fn add(db: &Database, n: i64) -> Result<(), Error> {
        db.write(move |c| {
            c.execute("INSERT INTO t VALUES (?1)", [n]).map(drop).map_err(Error::from)
        })
        .await
    }

    async fn sum(db: &Database) -> i64 {
        let sum = "SELECT coalesce(sum(n), 0) FROM t";
        db.read(move |c| c.query_row(sum, [], |r| r.get(0)).map_err(Error::from)).await.unwrap()
    }

    #[tokio::test]
    async fn one_failing_write_does_not_take_its_neighbours_along() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("x.db"), SCHEMA).unwrap();
        let writes = (0..50i64).map(|n| add(&db, n % 40));
        let outcomes = futures_util::future::join_all(writes).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_err()).count(), 10);
        assert_eq!(sum(&db).await, (0..40).sum::<i64>());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn writes_are_committed_in_the_order_in_which_a_task_makes_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("x.db"), SCHEMA).unwrap();
        // Several tasks, so that their writes share commits.
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8i64 {
            let db = db.clone();
            tasks.spawn(async move {
                for n in 0..40 {
                    // Both are begun in one poll: the second must not be committed first.
                    let (added, last) = tokio::join!(add(&db, task * 100 + n), last_of(&db, task));
                    added.unwrap();
                    assert_eq!(last, task * 100 + n);
                }
            });
        }
        tasks.join_all().await;
        let all = (0..8i64).flat_map(|task| (0..40).map(move |n| task * 100 + n));
        assert_eq!(sum(&db).await, all.sum::<i64>());
    }

    /// The largest number of a task, as the writer sees it.
    async fn last_of(db: &Database, task: i64) -> i64 {
        let last = "SELECT max(n) FROM t WHERE n BETWEEN ?1 AND ?2";
        db.write(move |c| {
            c.query_row(last, [task * 100, task * 100 + 99], |r| r.get(0)).map_err(Error::from)
        })
        .await
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_is_one_with_several_threads_too() {
        a_panic_in_its_work().await;
    }

    #[tokio::test]
    async fn a_panic_in_its_work_is_a_failure_of_the_program() {
        a_panic_in_its_work().await;
    }

    async fn a_panic_in_its_work() {
        let dir = tempfile::tempdir().unwrap();
        let (notes, mut noted) = tokio::sync::mpsc::unbounded_channel();
        let handler = FailureHandler::new(move |failure| notes.send(failure.to_string()).unwrap());
        let db = Database::open_with(&dir.path().join("x.db"), SCHEMA, handler).unwrap();
        let read = db.read(|_| -> Result<(), Error> { panic!("a bad read") }).await.unwrap_err();
        assert!(matches!(&read, Error::Panicked(text) if text == "a bad read"), "{read:?}");
        assert_eq!(sum(&db).await, 0, "reads still work");
        let write = db.write(|_| -> Result<(), Error> { panic!("a bad write") }).await;
        assert!(matches!(write, Err(Error::Closed)), "{write:?}");
        let after = add(&db, 1).await;
        assert!(matches!(after, Err(Error::Closed)), "{after:?}");
        assert_eq!(noted.recv().await.unwrap(), "a reader of a database failed: a bad read");
        assert_eq!(noted.recv().await.unwrap(), "the writer of a database failed: a bad write");
    }

    #[tokio::test]
    async fn few_reads_run_at_once() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("x.db"), SCHEMA).unwrap();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let reads = (0..64).map(|_| {
            let (running, most) = (running.clone(), most.clone());
            let (begun, released) = (begun.clone(), released.clone());
            db.read(move |_| {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                begun.send(()).unwrap();
                // Ends with the sender.
                let _ = released.lock().unwrap().recv();
                running.fetch_sub(1, SeqCst);
                Ok::<_, Error>(())
            })
        });
        let all = futures_util::future::join_all(reads);
        let first_begun = async {
            for _ in 0..READERS {
                begins.recv().await.unwrap();
            }
            // All others have been polled by now.
            drop(release);
        };
        let (outcomes, ()) = tokio::join!(all, first_begun);
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(most.load(SeqCst), READERS);
        assert!(db.readers.idle() <= READERS);
    }

    #[tokio::test]
    async fn a_file_of_an_earlier_version_can_shrink_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY);")
            .unwrap();
        old.execute_batch("INSERT INTO t VALUES (7); PRAGMA user_version=1;").unwrap();
        drop(old);
        let db = Database::open(&path, SCHEMA).unwrap();
        assert_eq!(sum(&db).await, 7);
        let mode = db.read(|conn| {
            let mode = conn.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0));
            mode.map_err(Error::from)
        });
        assert_eq!(mode.await.unwrap(), 2, "incremental");
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        drop(Database::open(&path, &["CREATE TABLE a (n)", "CREATE TABLE b (n)"]).unwrap());
        let refused = Database::open(&path, &["CREATE TABLE a (n)"]).unwrap_err();
        assert!(rt::chain(&refused).contains("schema 2"), "{}", rt::chain(&refused));
    }
}
