//! The thread that writes all logs of the host, so that a slow disk or a flood of
//! lines holds up no async thread.

use super::files::{self, Added, LogFiles, Segment};
use super::guest::{Meta, Numbered};
use super::log::{Log, LogId, Out, Queued, Shared};
use super::retention;
use camino::Utf8Path;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

/// Jobs whose lines go into one write per log.
const BATCH: usize = 256;
/// Bytes of one log that are kept while they cannot be written; as much as init keeps
/// for a daemon that does not read.
const UNWRITTEN: usize = 256 << 10;
/// The bytes that are kept of the log of a destroyed machine.
const KEPT_OF_DESTROYED: u64 = 64 << 10;
/// How long all of it is kept for exports that have not come to its end yet.
const UNTRIMMED_NS: i64 = 3600 * 1_000_000_000;

/// Work for the thread.
pub(super) enum Job {
    Bytes {
        id: LogId,
        /// The number of the channel.
        slot: usize,
        bytes: Vec<u8>,
        meta: Option<Meta>,
        at_ns: i64,
        /// From a guest that numbers its output.
        numbered: Option<Numbered>,
        queued: Arc<Queued>,
    },
    Line {
        id: LogId,
        provider: String,
        level: String,
        message: String,
        at_ns: i64,
    },
    /// The guest dropped so many bytes because they were not read.
    GuestDropped {
        id: LogId,
        bytes: u64,
    },
    /// The VM has ended: what is left of its streams is complete.
    EndOfStreams {
        log: String,
        at_ns: i64,
    },
    /// The machine is destroyed.
    Trim {
        log: String,
        at_ns: i64,
    },
    Remove {
        log: String,
    },
    /// Removes every log that is not among these.
    Retain {
        logs: BTreeSet<String>,
    },
    /// Removes what is too much or too old.
    Sweep {
        now_ns: i64,
    },
    /// Answered once everything before it is written, with the time of the newest line.
    Flush(SyncSender<i64>),
}

/// State of the thread.
pub(super) struct Writer {
    shared: Shared,
    logs: HashMap<String, Log>,
    out: Out,
    /// Logs of destroyed machines that an export has not read yet, and since when.
    untrimmed: BTreeMap<String, i64>,
}

impl Writer {
    pub(super) fn new(shared: Shared) -> Self {
        let out = Out { newest_ns: -1, fresh: Vec::new() };
        Self { shared, logs: HashMap::new(), out, untrimmed: BTreeMap::new() }
    }

    /// Ends once all senders are gone and the queue is empty.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        if let Err(err) = self.shared.index.load(&self.shared.dir) {
            tracing::error!(error = %err, "cannot read the directory of the logs");
        }
        self.out.newest_ns = self.shared.index.newest_ns();
        while let Ok(first) = jobs.recv() {
            let mut flushed = Vec::new();
            let batch = std::iter::once(first).chain(jobs.try_iter().take(BATCH));
            batch.for_each(|job| self.handle(job, &mut flushed));
            self.write();
            for answer in flushed {
                // The query may have been dropped.
                let _ = answer.send(self.out.newest_ns);
            }
        }
    }

    fn handle(&mut self, job: Job, flushed: &mut Vec<SyncSender<i64>>) {
        match job {
            Job::Bytes { id, slot, bytes, meta, at_ns, numbered, queued } => {
                queued.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                let dropped = queued.dropped_bytes.swap(0, Ordering::Relaxed);
                let log = open(&mut self.logs, &self.shared, id);
                let context = (&self.shared, &mut self.out);
                log.dropped_bytes = log.dropped_bytes.saturating_add(dropped);
                log.channels.entry(slot).or_default().meta = meta;
                match numbered {
                    Some(numbered) => log.numbered(slot, &bytes, numbered, at_ns, context),
                    None => log.bytes(slot, &bytes, None, at_ns, context),
                }
            }
            Job::Line { id, provider, level, message, at_ns } => {
                let log = open(&mut self.logs, &self.shared, id);
                let context = (&self.shared, &mut self.out);
                log.add((&provider, &level, None), message, at_ns, context);
            }
            Job::GuestDropped { id, bytes } => {
                let log = open(&mut self.logs, &self.shared, id);
                log.dropped_bytes = log.dropped_bytes.saturating_add(bytes);
            }
            Job::EndOfStreams { log, at_ns } => {
                if let Some(log) = self.logs.get_mut(&log) {
                    log.end_of_streams(at_ns, (&self.shared, &mut self.out));
                }
            }
            Job::Trim { log, at_ns } => {
                self.untrimmed.insert(log, at_ns);
                self.trim(at_ns);
            }
            Job::Remove { log } => self.remove(&log),
            Job::Retain { logs } => {
                let all = self.shared.index.ends().into_keys();
                let removed: Vec<_> = all.filter(|log| !logs.contains(log)).collect();
                removed.iter().for_each(|log| self.remove(log));
            }
            Job::Sweep { now_ns } => self.sweep(now_ns),
            Job::Flush(answer) => flushed.push(answer),
        }
    }

    fn write(&mut self) {
        let mut begun = Vec::new();
        for log in self.logs.values_mut() {
            let Some([first, last]) = log.unwritten.ends else { continue };
            // A full disk must not stop the machine; followers get the lines. They are
            // written with later ones if they can be: nothing of them is acknowledged yet,
            // so after a restart init sends them again.
            let added = Added { lines: &log.unwritten.bytes, first, last };
            let written = append(&self.shared, &log.id.log, &added);
            if let Err(err) = written {
                failed(&log.id.log, Err(err));
                if log.unwritten.bytes.len() <= UNWRITTEN {
                    continue;
                }
                let lost = log.unwritten.bytes.len() as u64;
                log.dropped_bytes = log.dropped_bytes.saturating_add(lost);
                log.unacknowledged.clear();
            } else if let Ok(true) = written {
                begun.push(log.id.log.clone());
            }
            log.unwritten.clear();
        }
        for log in self.logs.values_mut().filter(|log| log.unwritten.ends.is_none()) {
            for (acknowledge, stored) in log.unacknowledged.drain(..) {
                acknowledge(stored);
            }
        }
        for (app, entry) in self.out.fresh.drain(..) {
            self.shared.live.send(&app, entry);
        }
        self.shared.marks.notify();
        for log in begun {
            let Some(files) = self.shared.index.get(&log) else { continue };
            let cut = retention::cut_one(&files, &self.shared.limits, self.out.newest_ns);
            self.cut(&log, &cut);
        }
    }

    /// Removes what is too much or too old.
    fn sweep(&mut self, now_ns: i64) {
        self.trim(now_ns);
        let logs = self.shared.index.all();
        let cuts = retention::plan(&logs, &self.shared.limits, now_ns);
        for ((log, _), cut) in logs.iter().zip(&cuts) {
            self.cut(log, cut);
        }
    }

    fn cut(&self, log: &str, cut: &retention::Cut) {
        let Shared { dir, index, .. } = &self.shared;
        if cut.seal {
            index.seal(log);
        }
        let Some(files) = index.get(log).filter(|_| cut.oldest > 0) else { return };
        let mut kept = files.segments[cut.oldest..].to_vec();
        if kept.is_empty() {
            // Its name keeps the number of the next line.
            let next = Segment {
                first: files.last + 1,
                before_ns: files.last_ns,
                first_ns: None,
                bytes: 0,
            };
            let begun = files::begin(&files::path(dir, log, next.first, next.before_ns));
            if begun.is_err() {
                return failed(log, begun);
            }
            kept.push(next);
        }
        index.replace(log, kept);
        for path in &files.paths(dir, log)[..cut.oldest] {
            failed(log, remove_file(path));
        }
    }

    /// Cuts the logs of destroyed machines down, once no export needs the rest.
    fn trim(&mut self, now_ns: i64) {
        self.write();
        let untrimmed = std::mem::take(&mut self.untrimmed);
        for (log, since) in untrimmed {
            let Some(files) = self.shared.index.get(&log) else { continue };
            let exported = self.shared.marks.least(&log);
            let waits = exported.is_some_and(|exported| exported < files.last);
            if waits && now_ns.saturating_sub(since) < UNTRIMMED_NS {
                self.untrimmed.insert(log, since);
                continue;
            }
            self.logs.remove(&log);
            failed(&log, self.trim_one(&log, &files));
        }
    }

    fn trim_one(&self, log: &str, files: &LogFiles) -> io::Result<()> {
        let Shared { dir, index, .. } = &self.shared;
        let paths = files.paths(dir, log);
        let (Some(newest), Some(path)) = (files.segments.last(), paths.last()) else {
            return Ok(());
        };
        let mut kept = newest.clone();
        if newest.bytes > KEPT_OF_DESTROYED {
            let end = files::end_of(path, KEPT_OF_DESTROYED)?;
            let Some((first, before_ns, lines)) = end else { return Ok(()) };
            let path = files::path(dir, log, first, before_ns);
            rt::fs::write_atomic(path.as_std_path(), &lines, 0o600)?;
            kept = Segment { first, before_ns, first_ns: None, bytes: lines.len() as u64 };
        }
        let removed = files.segments.iter().zip(&paths);
        let removed: Vec<_> = removed.filter(|(segment, _)| segment.first != kept.first).collect();
        index.replace(log, vec![kept]);
        removed.into_iter().try_for_each(|(_, path)| remove_file(path))
    }

    fn remove(&mut self, log: &str) {
        self.logs.remove(log);
        self.untrimmed.remove(log);
        if let Some(files) = self.shared.index.remove(log) {
            for path in files.paths(&self.shared.dir, log) {
                failed(log, remove_file(&path));
            }
        }
    }
}

/// Whether they begin a segment.
fn append(shared: &Shared, log: &str, added: &Added<'_>) -> io::Result<bool> {
    let segment = shared.index.segment_for(log, added, shared.limits.segment_bytes());
    let path = files::path(&shared.dir, log, segment.first, segment.before_ns);
    let bytes = files::append(&path, added.lines)?;
    let begins = segment.bytes == 0;
    shared.index.added(log, segment, added, bytes);
    Ok(begins)
}

fn failed(log: &str, result: io::Result<()>) {
    if let Err(err) = result {
        tracing::debug!(log, error = %err, "cannot write a log");
    }
}

fn remove_file(path: &Utf8Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

fn open<'a>(logs: &'a mut HashMap<String, Log>, shared: &Shared, id: LogId) -> &'a mut Log {
    logs.entry(id.log.clone()).or_insert_with(|| Log::open(shared, id))
}
