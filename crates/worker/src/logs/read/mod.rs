//! Answers to queries: stored lines, page by page (`scan`, `pages`), then the lines that come
//! (`live`), as one stream (`query`).

mod live;
mod pages;
mod query;
mod scan;

pub(super) use live::Live;
pub(super) use pages::Reader;
#[cfg(test)]
pub(super) use query::QUERIES;
pub(crate) use query::TooManyQueries;
pub(super) use query::{Answer, Queries};
pub(super) use scan::from_number;

use std::sync::Arc;

/// The names of the logs of a query; asked for again while it is followed, since machines come
/// and go.
#[derive(Clone)]
pub(crate) struct LogNames(Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl LogNames {
    pub(crate) fn new(names: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(names))
    }

    pub(super) fn list(&self) -> Vec<String> {
        (self.0)()
    }
}

impl From<Vec<String>> for LogNames {
    fn from(names: Vec<String>) -> Self {
        Self::new(move || names.clone())
    }
}
