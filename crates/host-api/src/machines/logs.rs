//! Log lines of an app's machines.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::id::{AppId, MachineId};
use serde::{Deserialize, Serialize};
use wire::logs::{LogEntry, LogQuery};

/// Log lines of an app's machines on one host.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Lines in order of time. With `query.follow` the stream continues until the
    /// host stops or the stream is dropped. A reader that does not keep up never slows the
    /// host: what it has missed is read from the files, as long as they are kept; a line in
    /// place of those that are not names their number.
    async fn logs(
        &self,
        context: CallContext,
        app: AppId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError>;

    /// Adds a line of the platform (an edge, a deploy) to an app's log. Never
    /// waits: under load lines are dropped and counted.
    fn append(&self, line: LogLine);
}

/// The condition of a query that each line has to meet, whatever its time.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    instance: Option<String>,
    region: Option<String>,
    levels: Vec<String>,
    /// In lower case.
    text: Option<String>,
}

impl LogFilter {
    /// The filter of a query.
    pub fn new(query: &LogQuery) -> Self {
        Self {
            instance: query.instance.clone(),
            region: query.region.clone(),
            levels: query.levels.clone(),
            text: query.q.as_ref().map(|text| text.to_lowercase()),
        }
    }

    /// Whether a line is wanted.
    pub fn matches(&self, entry: &LogEntry) -> bool {
        self.of_origin(entry)
            && (self.levels.is_empty() || self.levels.contains(&entry.level))
            && self.text.as_ref().is_none_or(|text| entry.message.to_lowercase().contains(text))
    }

    /// Whether it is of the machine and region that are asked for.
    pub fn of_origin(&self, entry: &LogEntry) -> bool {
        self.instance.as_ref().is_none_or(|instance| *instance == entry.instance)
            && self.region.as_ref().is_none_or(|region| *region == entry.region)
    }
}

/// A line that another party than the machine adds to the log of its app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// App.
    pub app: AppId,
    /// Machine that the line is about; `None` if it is about the app.
    pub machine: Option<MachineId>,
    /// `proxy` or `runner`.
    pub provider: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The line, without its end.
    pub message: String,
}
