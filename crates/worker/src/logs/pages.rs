//! Pages of stored lines, read when they are asked for.

use super::segments;
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;
use wire::logs::{LogEntry, LogQuery};

/// Queries that read files at once.
const READERS: usize = 4;
/// Lines of one page.
pub(super) const PAGE: usize = 10_000;
/// Bytes of one page: a query holds no more.
const PAGE_BYTES: usize = 4 << 20;
/// What a line costs beside its text.
const LINE_COST: usize = 128;

/// Reads the files of a host's logs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reader {
    dir: Utf8PathBuf,
    turns: Arc<Semaphore>,
}

/// Where a line is among those of all logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(i64, u64, String);

impl Position {
    fn of(entry: &LogEntry) -> Self {
        Self(entry.timestamp, entry.offset, entry.instance.clone())
    }
}

/// Some lines, oldest first.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) lines: Vec<LogEntry>,
    /// Where the next page begins, if this one is full.
    pub(super) next: Option<Position>,
}

impl Reader {
    pub(super) fn new(dir: Utf8PathBuf) -> Self {
        Self { dir, turns: Arc::new(Semaphore::new(READERS)) }
    }

    /// Stored lines: the newest ones, or, of a query for what follows a time, the oldest
    /// ones after it. Holds one log's files and one page at a time; few read at once,
    /// beside the async threads.
    pub(super) async fn page(
        &self,
        logs: Arc<Vec<String>>,
        query: LogQuery,
        from: Option<Position>,
    ) -> Page {
        // It is never closed.
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return Page::default() };
        let dir = self.dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read_page(&dir, &logs, &query, from.as_ref())
        });
        read.await.unwrap_or_default()
    }
}

/// The query asks for the oldest lines after a time, not for the newest ones.
pub(super) fn asks_for_oldest(query: &LogQuery) -> bool {
    query.after.is_some() && query.tail.is_none()
}

pub(super) fn is_wanted(entry: &LogEntry, query: &LogQuery) -> bool {
    query.after.is_none_or(|after| entry.timestamp > after)
        && query.region.as_ref().is_none_or(|region| entry.region == *region)
}

fn read_page(dir: &Utf8Path, logs: &[String], query: &LogQuery, from: Option<&Position>) -> Page {
    let limit = query.tail.map_or(PAGE, |tail| (tail as usize).min(PAGE));
    let mut page = Page::default();
    let mut full = false;
    for log in logs {
        let mut lines = segments::read(dir, log);
        lines.retain(|entry| {
            is_wanted(entry, query) && from.is_none_or(|from| Position::of(entry) > *from)
        });
        page.lines.extend(lines);
        page.lines.sort_by(|a, b| {
            let key = |entry: &LogEntry| (entry.timestamp, entry.offset);
            key(a).cmp(&key(b)).then_with(|| a.instance.cmp(&b.instance))
        });
        let before = page.lines.len();
        if asks_for_oldest(query) {
            let fits = fitting(page.lines.iter(), limit);
            page.lines.truncate(fits);
        } else {
            let fits = fitting(page.lines.iter().rev(), limit);
            page.lines.drain(..before - fits);
        }
        full |= page.lines.len() < before;
    }
    page.next = page.lines.last().filter(|_| full).map(Position::of);
    page
}

/// How many of these lines fit into a page. At least one does.
fn fitting<'a>(lines: impl Iterator<Item = &'a LogEntry>, limit: usize) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&LogEntry| {
        let first = bytes == 0;
        bytes += entry.message.len() + LINE_COST;
        first || bytes <= PAGE_BYTES
    };
    lines.take(limit).take_while(fits).count()
}
