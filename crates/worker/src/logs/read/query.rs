//! The stream of lines that answers one query: stored pages, then the lines that come.

use super::LogNames;
use super::live::{Follower, Next};
use super::pages::{PAGE, Page, Range, Reader};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use host_api::LogFilter;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::logs::{LogEntry, LogQuery};

/// Queries of one app at once, followers among them: each may hold a page.
pub(in crate::logs) const QUERIES: usize = 32;

/// The app has as many queries as it may have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{QUERIES} queries of this app's logs are under way on this host; end one of them first")]
pub(crate) struct TooManyQueries;

/// Queries under way, by app.
#[derive(Debug, Default)]
pub(in crate::logs) struct Queries(Mutex<HashMap<String, usize>>);

/// A query that is counted until this is dropped.
pub(in crate::logs) struct Place {
    app: String,
    queries: Arc<Queries>,
}

impl Queries {
    pub(in crate::logs) fn admit(self: &Arc<Self>, app: &str) -> Result<Place, TooManyQueries> {
        let mut queries = self.lock();
        let count = queries.entry(app.to_owned()).or_default();
        if *count >= QUERIES {
            return Err(TooManyQueries);
        }
        *count += 1;
        Ok(Place { app: app.into(), queries: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queries = self.queries.lock();
        let left = queries.get_mut(&self.app).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            queries.remove(&self.app);
        }
    }
}

/// Writes what is queued; the time of the newest line then.
pub(in crate::logs) type Flush = Arc<dyn Fn() -> BoxFuture<'static, i64> + Send + Sync>;

/// The answer to one query. It holds one page, and reads the next one when the last line of that
/// has been taken.
pub(in crate::logs) struct Answer {
    pub(in crate::logs) reader: Reader,
    pub(in crate::logs) names: LogNames,
    pub(in crate::logs) query: LogQuery,
    pub(in crate::logs) flush: Flush,
    /// Subscribed before the files are read.
    pub(in crate::logs) live: Option<Follower>,
    /// The query is counted as long as it is answered.
    pub(in crate::logs) _place: Place,
}

/// An answer on its way.
struct Progress {
    answer: Answer,
    filter: Arc<LogFilter>,
    page: std::vec::IntoIter<LogEntry>,
    /// Where the files are to be read on, if they are.
    next: Option<i64>,
    /// All lines up to this time have been taken from the files, or will be.
    until: i64,
    /// Due behind the page.
    position: Option<LogEntry>,
}

impl Answer {
    /// Reads the first page.
    pub(in crate::logs) async fn stream(self) -> BoxStream<'static, LogEntry> {
        let filter = Arc::new(LogFilter::new(&self.query));
        let page = Vec::new().into_iter();
        let mut progress =
            Progress { answer: self, filter, page, next: None, until: -1, position: None };
        progress.begin().await;
        let next = |mut progress: Progress| async move { Some((progress.next().await?, progress)) };
        stream::unfold(progress, next).boxed()
    }
}

impl Progress {
    async fn begin(&mut self) {
        let LogQuery { after, tail, .. } = self.answer.query;
        // No line before the begin is wanted, however new it is.
        self.until = (self.answer.flush)().await.max(after.unwrap_or(-1));
        if let (Some(after), None) = (after, tail) {
            return self.read(after).await;
        }
        let most = tail.map_or(PAGE, |tail| (tail as usize).min(PAGE));
        let range = self.range(after.unwrap_or(i64::MIN), most);
        let page = self.answer.reader.newest(self.answer.names.list(), range).await;
        self.hold(page);
    }

    /// Reads the page of lines after a time.
    async fn read(&mut self, after: i64) {
        let range = self.range(after, PAGE);
        let page = self.answer.reader.oldest(self.answer.names.list(), range).await;
        self.hold(page);
    }

    fn range(&self, after: i64, most: usize) -> Range {
        Range { after, until: self.until, most, filter: self.filter.clone() }
    }

    fn hold(&mut self, page: Page) {
        let LogQuery { positions, follow, .. } = self.answer.query;
        self.page = page.lines.into_iter();
        self.position = positions.then(|| match page.next {
            Some(next) => LogEntry::position_within(next),
            None => LogEntry::position(self.until),
        });
        self.next = page.next.filter(|_| positions || follow);
    }

    async fn next(&mut self) -> Option<LogEntry> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(entry);
            }
            if let Some(position) = self.position.take() {
                return Some(position);
            }
            if let Some(after) = self.next.take() {
                self.read(after).await;
                continue;
            }
            match self.answer.live.as_mut()?.next().await {
                // Those up to then were among the stored ones.
                Next::Line(entry) if entry.timestamp > self.until => {
                    self.until = entry.timestamp;
                    if self.filter.matches(&entry) {
                        return Some((*entry).clone());
                    }
                }
                Next::Line(_) => {}
                Next::Behind => {
                    let after = self.until;
                    self.until = (self.answer.flush)().await;
                    self.read(after).await;
                }
                Next::End => return None,
            }
        }
    }
}
