//! The one writer. Work that comes while it is busy waits in a queue and shares a commit on
//! the writer's own thread. Work that finds it idle is committed where it is: handing it to
//! another thread and waiting for that thread's answer takes about as long as the commit.
//!
//! Invariant: work is committed in the order in which it came. So nothing is committed past
//! the queue while work is in it.

use crate::Error;
use rt::failure::{FailureHandler, panic_message};
use rusqlite::{Connection, Savepoint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError, mpsc};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Most callers whose work goes into one commit: bounds the time one waits.
const BATCH: usize = 256;
/// Writes that may wait; more callers wait for room.
const QUEUE: usize = 1024;

/// Does its work on the connection; without one no transaction could be begun.
type Job = Box<dyn FnOnce(Option<&mut Connection>) -> Finish + Send>;
/// Answers the caller once it is known whether the commit succeeded.
type Finish = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The writing side of a database. Cheap to clone; its thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Poisoned by work that panicked: the writer has stopped.
    conn: Mutex<Connection>,
    /// Jobs that have not been taken from the queue by the thread while it holds `conn`.
    queued: AtomicUsize,
    failures: FailureHandler,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(conn: Connection, failures: FailureHandler) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let conn = Mutex::new(conn);
        let shared = Arc::new(Shared { conn, queued: AtomicUsize::new(0), failures });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("sqlite-writer".into());
        thread.spawn(move || of_thread.guard(|| write_loop(&of_thread, &queue)))?;
        Ok(Self { jobs, shared })
    }

    /// See [`crate::Database::write`].
    pub(crate) async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let outcome = match conn {
                Some(conn) => in_savepoint(conn, work),
                None => Err(Error::Commit("no transaction could be begun".into()).into()),
            };
            Box::new(move |committed: Result<(), String>| {
                let outcome = match (outcome, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Ok(_), Err(why)) => Err(Error::Commit(why).into()),
                    (Err(err), _) => Err(err),
                };
                // The caller may have gone; its work is done all the same.
                let _ = answer.send(outcome);
            })
        });
        if let Some(job) = self.commit_here(job) {
            self.enqueue(job).await?;
        }
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Commits the job on this thread if the writer is idle, else gives it back.
    fn commit_here(&self, job: Job) -> Option<Job> {
        if !may_block_here() {
            return Some(job);
        }
        let mut conn = match self.shared.conn.try_lock() {
            Ok(conn) => conn,
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return Some(job),
        };
        // Jobs that are queued from here on come after this one: the thread needs the lock.
        if self.shared.queued.load(Ordering::Acquire) > 0 {
            return Some(job);
        }
        // The lock belongs to the work: its panic must poison it.
        let run = move || commit(&mut conn, job, || None);
        tokio::task::block_in_place(|| self.shared.guard(run));
        None
    }

    async fn enqueue(&self, job: Job) -> Result<(), Error> {
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        let job = match self.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(mpsc::TrySendError::Disconnected(_)) => return Err(Error::Closed),
            Err(mpsc::TrySendError::Full(job)) => job,
        };
        let jobs = self.jobs.clone();
        let sent = tokio::task::spawn_blocking(move || jobs.send(job)).await;
        sent.map_err(|_| Error::Closed)?.map_err(|_| Error::Closed)
    }
}

impl Shared {
    /// Runs work of callers; a panic of it is a failure of the writer.
    fn guard(&self, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.failures.report("the writer of a database", panic_message(&*panic));
        }
    }
}

/// Whether other tasks continue while this thread waits for the disk.
/// <https://docs.rs/tokio/latest/tokio/task/fn.block_in_place.html>
fn may_block_here() -> bool {
    Handle::try_current().is_ok_and(|rt| rt.runtime_flavor() == RuntimeFlavor::MultiThread)
}

fn write_loop(shared: &Shared, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let Ok(mut conn) = shared.conn.lock() else { return };
        shared.queued.fetch_sub(1, Ordering::AcqRel);
        commit(&mut conn, first, || {
            let job = queue.try_recv().ok()?;
            shared.queued.fetch_sub(1, Ordering::AcqRel);
            Some(job)
        });
    }
}

/// Commits the first job, with those of `more` that fit into the same transaction.
fn commit(conn: &mut Connection, first: Job, more: impl Fn() -> Option<Job>) {
    if let Err(err) = run(conn, "BEGIN IMMEDIATE") {
        first(None)(Err(err.to_string()));
        return;
    }
    let mut finishes = vec![first(Some(conn))];
    // A full disk may make SQLite roll all of it back in between; a job
    // behind that would be in no transaction.
    while finishes.len() < BATCH && !conn.is_autocommit() {
        let Some(job) = more() else { break };
        finishes.push(job(Some(conn)));
    }
    let committed = match conn.is_autocommit() {
        true => Err("the database rolled it back".to_owned()),
        false => run(conn, "COMMIT").map_err(|err| err.to_string()),
    };
    if committed.is_err() {
        // A failed COMMIT may leave the transaction open; the next BEGIN needs it closed.
        let _ = run(conn, "ROLLBACK");
    }
    for finish in finishes {
        finish(committed.clone());
    }
}

fn in_savepoint<T, E: From<Error>>(
    conn: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let point: Savepoint<'_> = conn.savepoint().map_err(Error::from)?;
    let value = work(&point)?;
    point.commit().map_err(Error::from)?;
    Ok(value)
}

/// Runs a statement that is parsed once in the life of the connection.
fn run(conn: &Connection, statement: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.execute([]).map(drop)
}
