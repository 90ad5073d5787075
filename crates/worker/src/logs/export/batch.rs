//! The lines that are delivered next: read from the files, a part of each log that is behind.

use super::marks::Cursors;
use crate::logs::files::{Index, LogFiles};
use crate::logs::read::from_number;
use crate::ports::BatchLimits;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use wire::logs::LogEntry;

/// Bytes of files that are read for one batch.
const SCAN_BYTES: u64 = 8 << 20;

/// Lines that are delivered together, and what has been done once they are.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Lines with the names of their logs, in order within each log.
    pub(super) lines: Vec<(String, LogEntry)>,
    /// Where each log that is in it ends, after it; `None` for one that is not there any more.
    pub(super) cursors: BTreeMap<String, Option<u64>>,
    /// Lines that were removed before they could be exported.
    pub(super) lost: u64,
    /// There is more.
    pub(super) is_full: bool,
    /// The log that the next batch begins behind.
    pub(super) last: Option<String>,
}

/// Reads the next batch. `ends` are the last numbers that were seen before, of logs that were
/// behind.
pub(super) fn next(
    dir: &Utf8Path,
    index: &Index,
    (cursors, ends): (&Cursors, &Cursors),
    limits: &BatchLimits,
    after: Option<&str>,
) -> Batch {
    let mut batch = Batch::default();
    let current = index.ends();
    for log in cursors.keys().chain(ends.keys()).filter(|log| !current.contains_key(*log)) {
        let delivered = cursors.get(log).copied().unwrap_or(0);
        if batch.cursors.insert(log.clone(), None).is_none() {
            batch.lost += ends.get(log).map_or(0, |end| end.saturating_sub(delivered));
        }
    }
    let behind = |log: &String| cursors.get(log).copied().unwrap_or(0) != current[log];
    // Every log gets its turn, however much another one has.
    let (before, behind_it): (Vec<_>, Vec<_>) =
        current.keys().filter(|log| behind(log)).partition(|log| Some(log.as_str()) <= after);
    let mut room = Room { lines: limits.lines.max(1), bytes: limits.bytes, scan: SCAN_BYTES };
    for log in behind_it.into_iter().chain(before) {
        let Some(files) = index.get(log) else { continue };
        if room.is_used_up() {
            batch.is_full = true;
            break;
        }
        let delivered = cursors.get(log).copied().unwrap_or(0);
        batch.last = Some(log.clone());
        batch.is_full = !read(dir, log, (index, &files, delivered), &mut room, &mut batch);
        if batch.is_full {
            break;
        }
    }
    batch
}

/// What is left of the bounds of a batch.
struct Room {
    lines: usize,
    bytes: usize,
    scan: u64,
}

impl Room {
    fn is_used_up(&self) -> bool {
        self.lines == 0 || self.bytes == 0 || self.scan == 0
    }

    fn take(&mut self, entry: &LogEntry, length: u64) {
        self.lines -= 1;
        self.bytes = self.bytes.saturating_sub(entry.message.len());
        self.scan = self.scan.saturating_sub(length);
    }
}

/// Reads a log up to its end; false if there was no room for all of it.
fn read(
    dir: &Utf8Path,
    log: &str,
    (index, files, delivered): (&Index, &LogFiles, u64),
    room: &mut Room,
    batch: &mut Batch,
) -> bool {
    // A log of this name has been begun again: its numbers have, too.
    let mut cursor = if delivered > files.last { 0 } else { delivered };
    if let Some(removed) = files.removed().filter(|removed| removed.number > cursor) {
        let lost = removed.number - cursor;
        batch.lost += lost;
        batch.lines.push((log.to_owned(), lost_line(log, lost, removed.number, removed.at_ns)));
        cursor = removed.number;
    }
    let (begin, mut first, mut is_read) = (cursor, None, true);
    from_number(dir, log, files, cursor + 1, &mut |entry, length| {
        if room.is_used_up() {
            is_read = false;
            return ControlFlow::Break(());
        }
        room.take(&entry, length);
        cursor = cursor.max(entry.offset);
        first.get_or_insert(entry.offset);
        batch.lines.push((log.to_owned(), entry));
        ControlFlow::Continue(())
    });
    // Segments may have been removed after `files` was read: the lines are counted next to those
    // that were found.
    let removed = index.get(log).and_then(|files| files.removed());
    if let Some(removed) = removed.filter(|removed| removed.number > begin) {
        let end = first.map_or(removed.number, |first: u64| removed.number.min(first - 1));
        batch.lost += end.saturating_sub(begin);
    }
    // Numbers without a line are those of dropped ones.
    let end = if is_read { cursor.max(files.last) } else { cursor };
    batch.cursors.insert(log.to_owned(), Some(end));
    is_read
}

/// A line in place of those that were lost.
fn lost_line(log: &str, lost: u64, number: u64, at_ns: i64) -> LogEntry {
    let instance = if log.starts_with(crate::logs::files::APP) { "" } else { log };
    LogEntry {
        offset: number,
        provider: "runner".into(),
        level: "warn".into(),
        instance: instance.into(),
        message: format!(
            "{lost} lines were removed before they could be exported: the export was too far \
             behind"
        ),
        ..LogEntry::position(at_ns)
    }
}
