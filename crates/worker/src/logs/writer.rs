//! The thread that writes all logs of the host, so that a slow disk or a flood of
//! lines holds up no async thread.

use super::budget::{Budget, RATE};
use super::guest::{Acknowledge, Channel, LogStream, Meta, Numbered, Positions};
use super::lines::Splitter;
use super::live::Live;
use super::segments::{self, Segments};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::BootId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use wire::logs::LogEntry;

/// Jobs whose lines go into one write per log.
const BATCH: usize = 256;
/// Bytes of one log that are kept while they cannot be written; as much as init keeps
/// for a daemon that does not read.
const UNWRITTEN: usize = 256 << 10;
/// The bytes that are kept of the log of a destroyed machine.
const KEPT_OF_DESTROYED: u64 = 64 << 10;

/// The queued bytes of one log, and the bytes dropped since the queue was full.
#[derive(Debug, Default)]
pub(super) struct Queued {
    pub(super) bytes: AtomicUsize,
    pub(super) dropped_bytes: AtomicU64,
}

/// One log of an app: a machine's, or the app's own.
#[derive(Clone, Debug)]
pub(super) struct LogId {
    pub(super) app: String,
    /// Machine id, or the name of the app's log.
    pub(super) log: String,
    /// Machine id, or empty.
    pub(super) instance: String,
}

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
    },
    Remove {
        log: String,
    },
    /// Removes every log that is not among these.
    Retain {
        logs: BTreeSet<String>,
    },
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// The lines of one channel.
#[derive(Default)]
struct Lines {
    splitter: Splitter,
    meta: Option<Meta>,
}

struct Log {
    id: LogId,
    segments: Segments,
    channels: BTreeMap<usize, Lines>,
    next: u64,
    budget: Budget,
    dropped_lines: u64,
    /// Bytes dropped in the guest or in the queue.
    dropped_bytes: u64,
    positions: Positions,
    /// Lines that are not written yet, or could not be.
    unwritten: Vec<u8>,
    /// The acknowledgements that are due once they are.
    unacknowledged: Vec<(Acknowledge, u64)>,
}

/// State of the thread.
pub(super) struct Writer {
    pub(super) dir: Utf8PathBuf,
    pub(super) region: String,
    pub(super) live: Arc<Live>,
    logs: HashMap<String, Log>,
}

impl Writer {
    pub(super) fn new(dir: Utf8PathBuf, region: String, live: Arc<Live>) -> Self {
        Self { dir, region, live, logs: HashMap::new() }
    }

    /// Ends once all senders are gone and the queue is empty.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut flushed = Vec::new();
            let batch = std::iter::once(first).chain(jobs.try_iter().take(BATCH));
            batch.for_each(|job| self.handle(job, &mut flushed));
            self.write();
            for answer in flushed {
                // The query may have been dropped.
                let _ = answer.send(());
            }
        }
    }

    fn handle(&mut self, job: Job, flushed: &mut Vec<SyncSender<()>>) {
        match job {
            Job::Bytes { id, slot, bytes, meta, at_ns, numbered, queued } => {
                queued.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                let dropped = queued.dropped_bytes.swap(0, Ordering::Relaxed);
                let context = (&self.region, &*self.live);
                let log = open(&mut self.logs, &self.dir, id);
                log.dropped_bytes = log.dropped_bytes.saturating_add(dropped);
                log.channels.entry(slot).or_default().meta = meta;
                match numbered {
                    Some(numbered) => log.numbered(slot, &bytes, numbered, at_ns, context),
                    None => log.bytes(slot, &bytes, None, at_ns, context),
                }
            }
            Job::Line { id, provider, level, message, at_ns } => {
                let context = (&self.region, &*self.live);
                let log = open(&mut self.logs, &self.dir, id);
                log.add((&provider, &level, None), message, at_ns, context);
            }
            Job::GuestDropped { id, bytes } => {
                let log = open(&mut self.logs, &self.dir, id);
                log.dropped_bytes = log.dropped_bytes.saturating_add(bytes);
            }
            Job::EndOfStreams { log, at_ns } => {
                let context = (&self.region, &*self.live);
                if let Some(log) = self.logs.get_mut(&log) {
                    log.end_of_streams(at_ns, context);
                }
            }
            Job::Trim { log } => {
                self.write();
                self.logs.remove(&log);
                failed(&log, Segments::new(&self.dir, &log).trim(KEPT_OF_DESTROYED));
            }
            Job::Remove { log } => {
                self.logs.remove(&log);
                failed(&log, Segments::new(&self.dir, &log).remove());
            }
            Job::Retain { logs } => self.retain(&logs),
            Job::Flush(answer) => flushed.push(answer),
        }
    }

    fn write(&mut self) {
        for log in self.logs.values_mut().filter(|log| !log.unwritten.is_empty()) {
            // A full disk must not stop the machine; followers have got the lines. They are
            // written with later ones if they can be: nothing of them is acknowledged yet,
            // so after a restart init sends them again.
            let written = log.segments.append(&log.unwritten);
            if written.is_err() && log.unwritten.len() <= UNWRITTEN {
                failed(&log.id.log, written);
                continue;
            }
            if written.is_err() {
                log.dropped_bytes = log.dropped_bytes.saturating_add(log.unwritten.len() as u64);
                log.unacknowledged.clear();
            }
            failed(&log.id.log, written);
            log.unwritten.clear();
            log.unwritten.shrink_to(64 << 10);
        }
        for log in self.logs.values_mut().filter(|log| log.unwritten.is_empty()) {
            for (acknowledge, stored) in log.unacknowledged.drain(..) {
                acknowledge(stored);
            }
        }
    }

    fn retain(&mut self, logs: &BTreeSet<String>) {
        let Ok(entries) = self.dir.read_dir_utf8() else { return };
        for entry in entries.flatten() {
            let log = segments::log_of(entry.file_name());
            if let Some(log) = log.filter(|log| !logs.contains(*log)) {
                failed(log, Segments::new(&self.dir, log).remove());
            }
        }
    }
}

fn failed(log: &str, result: std::io::Result<()>) {
    if let Err(err) = result {
        tracing::debug!(log, error = %err, "cannot write a log");
    }
}

fn open<'a>(logs: &'a mut HashMap<String, Log>, dir: &Utf8Path, id: LogId) -> &'a mut Log {
    logs.entry(id.log.clone()).or_insert_with(|| {
        let segments = Segments::new(dir, &id.log);
        let (next, positions) = segments.resume();
        Log {
            id,
            segments,
            channels: BTreeMap::new(),
            next,
            budget: Budget::default(),
            dropped_lines: 0,
            dropped_bytes: 0,
            positions,
            unwritten: Vec::new(),
            unacknowledged: Vec::new(),
        }
    })
}

/// Provider and level of a line, and what it carries beside its text.
type Origin<'a> = (&'a str, &'a str, Option<Meta>);

/// The region, and the followers.
type Context<'a> = (&'a String, &'a Live);

impl Log {
    /// Output that is numbered: what was taken before is left out.
    fn numbered(
        &mut self,
        slot: usize,
        bytes: &[u8],
        numbered: Numbered,
        at_ns: i64,
        context: Context<'_>,
    ) {
        let Numbered { boot, offset, acknowledge } = numbered;
        let position = self.positions.of(boot, slot);
        let new = position.advance(offset, bytes);
        let (taken, stored) = (position.taken, position.stored);
        self.bytes(slot, new, boot.map(|boot| (boot, taken)), at_ns, context);
        self.unacknowledged.push((acknowledge, stored));
    }

    /// `end` is the boot and the offset of the end of `bytes`, if they are numbered.
    fn bytes(
        &mut self,
        slot: usize,
        mut bytes: &[u8],
        end: Option<(BootId, u64)>,
        at_ns: i64,
        context: Context<'_>,
    ) {
        self.budget.refill(u64::try_from(at_ns / 1_000_000).unwrap_or(0));
        loop {
            let splitter = &mut self.channels.entry(slot).or_default().splitter;
            if self.budget.is_empty() {
                let skipped = splitter.skip(&mut bytes);
                self.drop_lines(skipped);
                return;
            }
            let Some(line) = splitter.next(&mut bytes) else { return };
            let end = end.map(|(boot, end)| (boot, end - bytes.len() as u64));
            self.guest_line(slot, line, end, at_ns, context);
        }
    }

    fn guest_line(
        &mut self,
        slot: usize,
        line: String,
        end: Option<(BootId, u64)>,
        at_ns: i64,
        context: Context<'_>,
    ) {
        if !self.budget.take(&line) {
            return self.drop_lines(1);
        }
        self.report_drops(at_ns, context);
        let provider = match Channel::of_slot(slot).map(|channel| channel.stream) {
            Some(LogStream::Init) => "machine",
            _ => "app",
        };
        let meta = self.channels.get(&slot).and_then(|lines| lines.meta.clone());
        self.add((provider, "info", meta), line, at_ns, context);
        if let Some((boot, end)) = end {
            segments::note_end(&mut self.unwritten, boot, slot, end);
        }
    }

    /// Dropped lines keep their numbers, so that a reader sees the gap.
    fn drop_lines(&mut self, lines: u64) {
        self.dropped_lines += lines;
        self.next += lines;
    }

    fn end_of_streams(&mut self, at_ns: i64, context: Context<'_>) {
        let rests = self.channels.iter_mut();
        let rests = rests.filter_map(|(slot, lines)| Some((*slot, lines.splitter.rest()?)));
        for (slot, line) in rests.collect::<Vec<_>>() {
            self.guest_line(slot, line, None, at_ns, context);
        }
        self.report_drops(at_ns, context);
    }

    /// Reported with the next line, so that a guest cannot make lines of it.
    fn report_drops(&mut self, at_ns: i64, context: Context<'_>) {
        let lines = std::mem::take(&mut self.dropped_lines);
        let bytes = std::mem::take(&mut self.dropped_bytes);
        if lines > 0 {
            let text = format!("{lines} lines were dropped: more than {RATE} bytes/s");
            self.add(("runner", "warn", None), text, at_ns, context);
        }
        if bytes > 0 {
            let text = format!("{bytes} bytes of output were dropped: too fast");
            self.add(("runner", "warn", None), text, at_ns, context);
        }
    }

    fn add(&mut self, of: Origin<'_>, message: String, at_ns: i64, context: Context<'_>) {
        let ((by, level, meta), (region, live)) = (of, context);
        let entry = LogEntry {
            offset: self.next,
            timestamp: at_ns,
            provider: by.into(),
            level: level.into(),
            instance: self.id.instance.clone(),
            region: region.clone(),
            message,
            meta: meta.map(|meta| (*meta).clone()).unwrap_or_default(),
        };
        self.next += 1;
        serde_json::to_writer(&mut self.unwritten, &entry).expect("plain data serializes");
        self.unwritten.push(b'\n');
        live.send(&self.id.app, entry);
    }
}
