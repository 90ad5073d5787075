//! The stream of lines that answers one query: stored pages, then the lines that come.

use super::live::Follower;
use super::pages::{Page, Position, Reader, asks_for_oldest, is_wanted};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::logs::{LogEntry, LogQuery};

/// Pages that a follower gets before the lines that come.
const PAGES: usize = 256;
/// Queries of one app at once, followers among them: each may hold a page.
pub(super) const QUERIES: usize = 32;

/// The app has as many queries as it may have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{QUERIES} queries of this app's logs are under way on this host; end one of them first")]
pub(crate) struct TooManyQueries;

/// Queries under way, by app.
#[derive(Debug, Default)]
pub(super) struct Queries(Mutex<HashMap<String, usize>>);

/// A query that is counted until this is dropped.
pub(super) struct Place {
    app: String,
    queries: Arc<Queries>,
}

impl Queries {
    pub(super) fn admit(self: &Arc<Self>, app: &str) -> Result<Place, TooManyQueries> {
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

/// Stored lines, a page at a time.
pub(super) struct Past {
    reader: Reader,
    logs: Arc<Vec<String>>,
    query: LogQuery,
    page: std::vec::IntoIter<LogEntry>,
    next: Option<Position>,
    /// Pages that may still be read.
    further: usize,
    /// The last line of each log that has been read.
    seen: HashMap<String, u64>,
}

impl Past {
    /// Reads the first page.
    pub(super) async fn begin(reader: Reader, logs: Vec<String>, query: LogQuery) -> Self {
        let logs = Arc::new(logs);
        let first = reader.page(logs.clone(), query.clone(), None).await;
        // A follower that continues from a line may have missed more than a page.
        let further = if query.follow && asks_for_oldest(&query) { PAGES - 1 } else { 0 };
        let (page, seen) = (Vec::new().into_iter(), HashMap::new());
        let mut past = Self { reader, logs, query, page, next: None, further, seen };
        past.hold(first);
        past
    }

    fn hold(&mut self, page: Page) {
        for entry in &page.lines {
            self.seen.insert(entry.instance.clone(), entry.offset);
        }
        self.next = page.next.filter(|_| self.further > 0);
        self.page = page.lines.into_iter();
    }

    async fn next(&mut self) -> Option<LogEntry> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(entry);
            }
            let from = self.next.take()?;
            self.further -= 1;
            let page = self.reader.page(self.logs.clone(), self.query.clone(), Some(from)).await;
            self.hold(page);
        }
    }

    /// A line that comes is asked for, and was not among the stored ones.
    fn is_new(&self, entry: &LogEntry) -> bool {
        self.query.instance.as_ref().is_none_or(|only| *only == entry.instance)
            && is_wanted(entry, &self.query)
            && self.seen.get(&entry.instance).is_none_or(|last| entry.offset > *last)
    }
}

/// The stored lines, then those of `live`.
pub(super) fn lines(
    past: Past,
    live: Option<Follower>,
    place: Place,
) -> BoxStream<'static, LogEntry> {
    stream::unfold((past, live, place), |(mut past, mut live, place)| async move {
        if let Some(entry) = past.next().await {
            return Some((entry, (past, live, place)));
        }
        loop {
            let entry = live.as_mut()?.next().await?;
            if past.is_new(&entry) {
                return Some(((*entry).clone(), (past, live, place)));
            }
        }
    })
    .boxed()
}
