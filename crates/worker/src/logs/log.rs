//! One log that is written: output cut into lines, within its rate, numbered and stamped.

use super::budget::{Budget, RATE};
use super::export::Marks;
use super::files::{self, Index};
use super::guest::{Acknowledge, Channel, LogStream, Meta, Numbered, Positions};
use super::lines::Splitter;
use super::read::Live;
use super::retention::LogLimits;
use camino::Utf8PathBuf;
use model::id::BootId;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use wire::logs::LogEntry;

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

/// The lines of one channel.
#[derive(Default)]
pub(super) struct Lines {
    splitter: Splitter,
    pub(super) meta: Option<Meta>,
}

/// One log that is written.
pub(super) struct Log {
    pub(super) id: LogId,
    region: String,
    pub(super) channels: BTreeMap<usize, Lines>,
    next: u64,
    budget: Budget,
    dropped_lines: u64,
    /// Bytes dropped in the guest or in the queue.
    pub(super) dropped_bytes: u64,
    positions: Positions,
    pub(super) unwritten: Unwritten,
    /// The acknowledgements that are due once the lines are written.
    pub(super) unacknowledged: Vec<(Acknowledge, u64)>,
}

/// Lines that are not written yet, or could not be.
#[derive(Default)]
pub(super) struct Unwritten {
    pub(super) bytes: Vec<u8>,
    /// Number and time of the first and of the last of them.
    pub(super) ends: Option<[(u64, i64); 2]>,
}

/// The regions that lines name.
#[derive(Debug)]
pub(super) struct Regions {
    /// Of the host.
    pub(super) own: String,
    /// Of machines that were asked for another code of it.
    pub(super) of_machines: Mutex<HashMap<String, String>>,
}

impl Regions {
    pub(super) fn of(&self, machine: &str) -> String {
        let of_machines = self.of_machines.lock().unwrap_or_else(PoisonError::into_inner);
        of_machines.get(machine).unwrap_or(&self.own).clone()
    }
}

/// Settings of the thread, and what it shares with readers.
pub(super) struct Shared {
    pub(super) dir: Utf8PathBuf,
    pub(super) regions: Arc<Regions>,
    pub(super) limits: LogLimits,
    pub(super) index: Arc<Index>,
    pub(super) live: Arc<Live>,
    pub(super) marks: Arc<Marks>,
}

/// Where lines go: their times, and those that followers wait for.
pub(super) struct Out {
    /// The time of the newest line. Each line has a later one than the line before it, of
    /// whatever log: a reader that has read up to a time misses nothing.
    pub(super) newest_ns: i64,
    /// Lines of apps that are followed, until they have been written: a follower never has a line
    /// that a killed daemon has not stored.
    pub(super) fresh: Vec<(String, LogEntry)>,
}

impl Unwritten {
    fn add(&mut self, entry: &LogEntry) {
        let end = (entry.offset, entry.timestamp);
        self.ends = Some([self.ends.map_or(end, |[first, _]| first), end]);
        serde_json::to_writer(&mut self.bytes, entry).expect("plain data serializes");
        self.bytes.push(b'\n');
    }

    pub(super) fn clear(&mut self) {
        self.ends = None;
        self.bytes.clear();
        self.bytes.shrink_to(64 << 10);
    }
}

/// Provider and level of a line, and what it carries beside its text.
pub(super) type Origin<'a> = (&'a str, &'a str, Option<Meta>);

/// Settings, and where lines go.
pub(super) type Context<'a> = (&'a Shared, &'a mut Out);

impl Log {
    /// Continues where its files end.
    pub(super) fn open(shared: &Shared, id: LogId) -> Self {
        let files = shared.index.get(&id.log).unwrap_or_default();
        let paths = files.paths(&shared.dir, &id.log);
        let newest = paths.iter().skip(paths.len().saturating_sub(2));
        Self {
            channels: BTreeMap::new(),
            next: files.last + 1,
            budget: Budget::default(),
            dropped_lines: 0,
            dropped_bytes: 0,
            positions: files::resume(newest.map(Utf8PathBuf::as_path)),
            unwritten: Unwritten::default(),
            unacknowledged: Vec::new(),
            region: shared.regions.of(&id.instance),
            id,
        }
    }

    /// Output that is numbered: what was taken before is left out.
    pub(super) fn numbered(
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
    pub(super) fn bytes(
        &mut self,
        slot: usize,
        mut bytes: &[u8],
        end: Option<(BootId, u64)>,
        at_ns: i64,
        (shared, out): Context<'_>,
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
            self.guest_line(slot, line, end, at_ns, (shared, out));
        }
    }

    fn guest_line(
        &mut self,
        slot: usize,
        line: String,
        end: Option<(BootId, u64)>,
        at_ns: i64,
        (shared, out): Context<'_>,
    ) {
        if !self.budget.take(&line) {
            return self.drop_lines(1);
        }
        self.report_drops(at_ns, (shared, out));
        let provider = match Channel::of_slot(slot).map(|channel| channel.stream) {
            Some(LogStream::Init) => "machine",
            _ => "app",
        };
        let meta = self.channels.get(&slot).and_then(|lines| lines.meta.clone());
        self.add((provider, "info", meta), line, at_ns, (shared, out));
        if let Some((boot, end)) = end {
            files::note_end(&mut self.unwritten.bytes, boot, slot, end);
        }
    }

    /// Dropped lines keep their numbers, so that a reader sees the gap.
    fn drop_lines(&mut self, lines: u64) {
        self.dropped_lines += lines;
        self.next += lines;
    }

    pub(super) fn end_of_streams(&mut self, at_ns: i64, (shared, out): Context<'_>) {
        let rests = self.channels.iter_mut();
        let rests = rests.filter_map(|(slot, lines)| Some((*slot, lines.splitter.rest()?)));
        for (slot, line) in rests.collect::<Vec<_>>() {
            self.guest_line(slot, line, None, at_ns, (shared, out));
        }
        self.report_drops(at_ns, (shared, out));
    }

    /// Reported with the next line, so that a guest cannot make lines of it.
    fn report_drops(&mut self, at_ns: i64, (shared, out): Context<'_>) {
        let lines = std::mem::take(&mut self.dropped_lines);
        let bytes = std::mem::take(&mut self.dropped_bytes);
        if lines > 0 {
            let text = format!("{lines} lines were dropped: more than {RATE} bytes/s");
            self.add(("runner", "warn", None), text, at_ns, (shared, out));
        }
        if bytes > 0 {
            let text = format!("{bytes} bytes of output were dropped: too fast");
            self.add(("runner", "warn", None), text, at_ns, (shared, out));
        }
    }

    pub(super) fn add(
        &mut self,
        of: Origin<'_>,
        message: String,
        at_ns: i64,
        context: Context<'_>,
    ) {
        let ((by, level, meta), (shared, out)) = (of, context);
        out.newest_ns = at_ns.max(out.newest_ns.saturating_add(1));
        let entry = LogEntry {
            offset: self.next,
            timestamp: out.newest_ns,
            provider: by.into(),
            level: level.into(),
            instance: self.id.instance.clone(),
            region: self.region.clone(),
            message,
            meta: meta.map(|meta| (*meta).clone()).unwrap_or_default(),
        };
        self.next += 1;
        self.unwritten.add(&entry);
        if shared.live.is_followed(&self.id.app) {
            out.fresh.push((self.id.app.clone(), entry));
        }
    }
}
