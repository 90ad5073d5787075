//! The task of one sink: reads what is new, delivers it, and notes how far it has come.
//!
//! The progress is stored after each delivery, never before it: a daemon that is killed in
//! between delivers one batch again, and loses none.

use super::batch::{self, Batch};
use super::marks::{Cursors, Marks};
use super::metrics::SinkMetrics;
use crate::db::HostDb;
use crate::logs::files::Index;
use crate::ports::{ExportedLine, LogSink, SendError, Taken};
use camino::Utf8PathBuf;
use rt::{Backoff, Rng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wire::logs::LogEntry;

/// Pauses between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Names of apps, by the names of their logs.
pub(crate) type AppNames = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What the task of a sink works with.
pub(super) struct Export {
    pub(super) sink: Arc<dyn LogSink>,
    pub(super) dir: Utf8PathBuf,
    pub(super) index: Arc<Index>,
    pub(super) marks: Arc<Marks>,
    pub(super) db: HostDb,
    pub(super) apps: AppNames,
    pub(super) rng: Rng,
    pub(super) metrics: SinkMetrics,
}

/// How far it has come.
#[derive(Default)]
struct State {
    cursors: Cursors,
    /// The last numbers of logs that were behind at the last look.
    ends: Cursors,
    last: Option<String>,
}

impl Export {
    /// Runs without an end.
    pub(super) async fn run(self) {
        let mut state = State { cursors: self.load().await, ..State::default() };
        self.marks.set(self.sink.name(), state.cursors.clone());
        let mut written = self.marks.written();
        loop {
            written.borrow_and_update();
            let batch = self.next(&mut state).await;
            let (is_full, is_empty) = (batch.is_full, batch.cursors.is_empty());
            if !is_empty {
                self.lost(batch.lost);
                self.deliver(&batch.lines).await;
                self.store(&mut state, batch).await;
            }
            if !is_full {
                // The sender lives as long as this.
                let _ = written.changed().await;
                tokio::time::sleep(self.sink.limits().wait).await;
            }
        }
    }

    async fn load(&self) -> Cursors {
        let mut pauses = pauses();
        loop {
            match self.db.log_cursors(self.sink.name()).await {
                Ok(cursors) => return cursors,
                Err(err) => self.failed("read how far the export has come", &err),
            }
            tokio::time::sleep(pauses.pause(&self.rng)).await;
        }
    }

    async fn next(&self, state: &mut State) -> Batch {
        let (dir, index, limits) = (self.dir.clone(), self.index.clone(), self.sink.limits());
        let (cursors, ends) = (state.cursors.clone(), state.ends.clone());
        let after = state.last.clone();
        let read = tokio::task::spawn_blocking(move || {
            batch::next(&dir, &index, (&cursors, &ends), &limits, after.as_deref())
        });
        // It does not panic.
        let batch = read.await.unwrap_or_default();
        let behind = self
            .index
            .ends()
            .into_iter()
            .filter(|(log, end)| state.cursors.get(log).copied().unwrap_or(0) < *end);
        state.ends = behind.collect();
        let delivered = |log: &String| state.cursors.get(log).copied().unwrap_or(0);
        let behind: u64 = state.ends.iter().map(|(log, end)| end - delivered(log)).sum();
        self.metrics.behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        state.last = batch.last.clone();
        batch
    }

    fn lost(&self, lines: u64) {
        if lines > 0 {
            self.metrics.removed.inc_by(lines);
            let sink = self.sink.name();
            tracing::warn!(sink, lines, "log lines were removed before they could be exported");
        }
    }

    /// Returns once the receiver has taken all of them, or refused those that it never will take.
    async fn deliver(&self, lines: &[(String, LogEntry)]) {
        let lines: Vec<ExportedLine> = lines
            .iter()
            .map(|(log, entry)| ExportedLine { entry: entry.clone(), app: (self.apps)(log) })
            .collect();
        // Parts of the batch, the next one last.
        let mut parts = vec![lines.as_slice()];
        let (mut pauses, mut is_failing) = (pauses(), false);
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            match self.send(part).await {
                Ok(Taken { refused }) => {
                    self.metrics.lines.inc_by((part.len() as u64).saturating_sub(refused));
                    self.metrics.batches.inc();
                    self.refused(refused, None);
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(sink = self.sink.name(), "the export of logs works again");
                    }
                    pauses = self::pauses();
                }
                // One line may spoil the others.
                Err(SendError::Refused(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(SendError::Refused(err)) => self.refused(1, Some(&err)),
                Err(SendError::Unavailable(err)) => {
                    self.metrics.failures.inc();
                    if !std::mem::replace(&mut is_failing, true) {
                        self.failed("export logs", &err);
                    }
                    parts.push(part);
                    tokio::time::sleep(pauses.pause(&self.rng)).await;
                }
            }
        }
    }

    async fn send(&self, lines: &[ExportedLine]) -> Result<Taken, SendError> {
        let limit = self.sink.limits().timeout;
        let sent = tokio::time::timeout(limit, self.sink.send(lines)).await;
        sent.unwrap_or_else(|_| {
            let late = format!("the receiver has not taken {} lines within {limit:?}", lines.len());
            Err(SendError::Unavailable(crate::ports::PortError::plain(late)))
        })
    }

    fn refused(&self, lines: u64, err: Option<&crate::ports::PortError>) {
        if lines > 0 {
            self.metrics.refused.inc_by(lines);
            let error = err.map(|err| rt::chain(err)).unwrap_or_default();
            let sink = self.sink.name();
            tracing::warn!(sink, lines, error, "a receiver has refused log lines");
        }
    }

    /// Notes that a batch has been delivered.
    async fn store(&self, state: &mut State, batch: Batch) {
        for (log, number) in &batch.cursors {
            match number {
                Some(number) => state.cursors.insert(log.clone(), *number),
                None => state.cursors.remove(log),
            };
        }
        let mut pauses = pauses();
        while let Err(err) = self.put(batch.cursors.clone()).await {
            self.failed("note how far the export has come", &err);
            tokio::time::sleep(pauses.pause(&self.rng)).await;
        }
        self.marks.set(self.sink.name(), state.cursors.clone());
    }

    async fn put(&self, cursors: BTreeMap<String, Option<u64>>) -> Result<(), sqlite::Error> {
        self.db.put_log_cursors(self.sink.name(), cursors).await
    }

    fn failed(&self, what: &str, err: &(dyn std::error::Error + 'static)) {
        let (sink, error) = (self.sink.name(), rt::chain(err));
        tracing::warn!(sink, error, "cannot {what}, trying again");
    }
}

fn pauses() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}
