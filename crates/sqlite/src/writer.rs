//! The one writer: a thread of its own, on which work that waits shares a commit.

use crate::Error;
use rt::failure::{FailureHandler, panic_message};
use rusqlite::{Connection, Savepoint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
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
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(mut conn: Connection, failures: FailureHandler) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("sqlite-writer".into());
        thread.spawn(move || {
            let run = AssertUnwindSafe(|| write_loop(&mut conn, &queue));
            if let Err(panic) = catch_unwind(run) {
                failures.report("the writer of a database", panic_message(&*panic));
            }
        })?;
        Ok(Self { jobs })
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
        self.enqueue(job).await?;
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn enqueue(&self, job: Job) -> Result<(), Error> {
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

fn write_loop(conn: &mut Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        if let Err(err) = run(conn, "BEGIN IMMEDIATE") {
            first(None)(Err(err.to_string()));
            continue;
        }
        let mut finishes = vec![first(Some(conn))];
        // A full disk may make SQLite roll all of it back in between; a job
        // behind that would be in no transaction.
        while finishes.len() < BATCH && !conn.is_autocommit() {
            let Ok(job) = queue.try_recv() else { break };
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
