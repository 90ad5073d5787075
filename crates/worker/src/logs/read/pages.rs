//! Pages of stored lines: of several logs, in the order of time, read when they are asked for.
//!
//! A page holds few lines, and is made from a bounded number of bytes: a search that finds
//! nothing ends too, and continues with the next page.

use super::scan;
use crate::logs::files::{APP, Index, LogFiles};
use camino::{Utf8Path, Utf8PathBuf};
use host_api::LogFilter;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::Semaphore;
use wire::logs::LogEntry;

/// Queries that read files at once.
const READERS: usize = 4;
/// Lines of one page.
pub(super) const PAGE: usize = 10_000;
/// Bytes of one page: a query holds no more.
const PAGE_BYTES: usize = 4 << 20;
/// What a line costs beside its text.
const LINE_COST: usize = 128;
/// Bytes of files that are read for one page, and at least one line of each log.
const SCAN_BYTES: u64 = 64 << 20;

/// Reads the files of a host's logs. Cheap to clone.
#[derive(Clone)]
pub(in crate::logs) struct Reader {
    dir: Utf8PathBuf,
    index: Arc<Index>,
    turns: Arc<Semaphore>,
    scan_bytes: u64,
}

/// Which lines are wanted.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// Later ones than this,
    pub(super) after: i64,
    /// up to this.
    pub(super) until: i64,
    pub(super) most: usize,
    pub(super) filter: Arc<LogFilter>,
}

/// Makes a page of these logs; the last argument is the share of each.
type ReadPage = fn(&Utf8Path, &[(String, LogFiles)], &Range, u64) -> Page;

/// Some lines, oldest first.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) lines: Vec<LogEntry>,
    /// Up to when lines have been looked for, if not to the end of the range.
    pub(super) next: Option<i64>,
}

impl Reader {
    pub(in crate::logs) fn new(dir: Utf8PathBuf, index: Arc<Index>) -> Self {
        let turns = Arc::new(Semaphore::new(READERS));
        Self { dir, index, turns, scan_bytes: SCAN_BYTES }
    }

    #[cfg(test)]
    pub(in crate::logs) fn set_scan_bytes(&mut self, bytes: u64) {
        self.scan_bytes = bytes;
    }

    /// The oldest lines of the range. Removed lines that were in it are one line that has their
    /// number. Few pages are read at once, beside the async threads.
    pub(super) async fn oldest(&self, logs: Vec<String>, range: Range) -> Page {
        self.read(logs, range, oldest).await
    }

    /// The newest lines of the range.
    pub(super) async fn newest(&self, logs: Vec<String>, range: Range) -> Page {
        self.read(logs, range, newest).await
    }

    async fn read(&self, logs: Vec<String>, range: Range, read: ReadPage) -> Page {
        // It is never closed.
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return Page::default() };
        let own = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let files = logs.into_iter().filter_map(|log| Some((own.index.get(&log)?, log)));
            let files: Vec<_> = files.map(|(files, log)| (log, files)).collect();
            let share = own.scan_bytes / files.len().max(1) as u64;
            read(&own.dir, &files, &range, share)
        });
        read.await.unwrap_or_default()
    }
}

/// Each log is read for at most `share` bytes. Where the first one of them ends, or the page is
/// full, is the end of the page for all logs.
fn oldest(dir: &Utf8Path, logs: &[(String, LogFiles)], range: &Range, share: u64) -> Page {
    let (mut lines, mut end) = (Vec::new(), range.until);
    for (log, files) in logs.iter().filter(|(_, files)| files.last_ns > range.after) {
        lines.extend(removed(log, files, range));
        let (mut read, mut count, mut bytes, mut last) = (0, 0, 0, range.after);
        scan::forward(dir, log, files, range.after, &mut |entry, length| {
            if entry.timestamp > end {
                return ControlFlow::Break(());
            }
            // Lines of earlier versions may have one time; a page ends between times.
            let full = read >= share || count >= range.most || bytes >= PAGE_BYTES;
            if full && entry.timestamp > last {
                end = last;
                return ControlFlow::Break(());
            }
            (read, last) = (read + length, entry.timestamp);
            if range.filter.matches(&entry) {
                (count, bytes) = (count + 1, bytes + entry.message.len() + LINE_COST);
                lines.push(entry);
            }
            ControlFlow::Continue(())
        });
        lines.retain(|line| line.timestamp <= end);
        sort(&mut lines);
        let fits = fitting(lines.iter(), range.most);
        if fits < lines.len() {
            end = end_before(&lines, fits);
            lines.retain(|line| line.timestamp <= end);
        }
    }
    Page { lines, next: (end < range.until).then_some(end) }
}

/// The time of the last line of those that fit, unless the next line has it too.
fn end_before(lines: &[LogEntry], fits: usize) -> i64 {
    let cut = lines[fits].timestamp;
    let mut earlier = lines[..fits].iter().rev().map(|line| line.timestamp);
    earlier.find(|time| *time < cut).unwrap_or(cut)
}

/// A line in place of those in the range that are not kept any more.
fn removed(log: &str, files: &LogFiles, range: &Range) -> Option<LogEntry> {
    let removed = files.removed().filter(|removed| removed.at_ns > range.after)?;
    let count = removed.number;
    let instance = if log.starts_with(APP) { "" } else { log };
    let message = format!(
        "Up to {count} lines that were written before have been removed: settings bound the size \
         and the age of a log"
    );
    let line = LogEntry {
        offset: removed.number,
        provider: "runner".into(),
        level: "warn".into(),
        instance: instance.into(),
        message,
        ..LogEntry::position(removed.at_ns)
    };
    (removed.at_ns <= range.until).then_some(line)
}

fn newest(dir: &Utf8Path, logs: &[(String, LogFiles)], range: &Range, share: u64) -> Page {
    let (mut lines, mut begin) = (Vec::new(), range.after);
    let mut unread = None;
    for (log, files) in logs.iter().filter(|(_, files)| files.last_ns > range.after) {
        let (mut read, mut count, mut bytes) = (0, 0, 0);
        scan::backward(dir, log, files, &mut |entry, length| {
            let full = count >= range.most || bytes >= PAGE_BYTES;
            if entry.timestamp <= begin || full {
                return ControlFlow::Break(());
            }
            if read >= share {
                unread = unread.max(Some(entry.timestamp));
                return ControlFlow::Break(());
            }
            read += length;
            if entry.timestamp <= range.until && range.filter.matches(&entry) {
                (count, bytes) = (count + 1, bytes + entry.message.len() + LINE_COST);
                lines.push(entry);
            }
            ControlFlow::Continue(())
        });
        sort(&mut lines);
        let fits = fitting(lines.iter().rev(), range.most);
        if fits < lines.len() || fits == range.most {
            lines.drain(..lines.len() - fits);
            // Older ones are not among the newest.
            begin = begin.max(lines.first().map_or(begin, |line| line.timestamp - 1));
        }
    }
    // Lines of the other logs that are as old are left out too: what is shown is complete.
    if let Some(unread) = unread.filter(|unread| *unread > begin) {
        lines.retain(|line| line.timestamp > unread);
        lines.insert(0, not_searched(unread));
    }
    Page { lines, next: None }
}

fn not_searched(unread: i64) -> LogEntry {
    let message = format!(
        "Older lines have not been searched: a search for the newest lines reads at most {} MiB. \
         Give a time to search from (since)",
        SCAN_BYTES >> 20
    );
    let (provider, level) = ("runner".into(), "warn".into());
    LogEntry { provider, level, message, ..LogEntry::position(unread) }
}

fn sort(lines: &mut [LogEntry]) {
    lines.sort_by(|a, b| {
        let key = |entry: &LogEntry| (entry.timestamp, entry.offset);
        key(a).cmp(&key(b)).then_with(|| a.instance.cmp(&b.instance))
    });
}

/// How many of these lines fit into a page. At least one does.
fn fitting<'a>(lines: impl Iterator<Item = &'a LogEntry>, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&LogEntry| {
        let first = bytes == 0;
        bytes += entry.message.len() + LINE_COST;
        first || bytes <= PAGE_BYTES
    };
    lines.take(most).take_while(fits).count()
}
