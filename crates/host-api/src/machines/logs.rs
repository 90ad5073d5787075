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
    /// host stops or the stream is dropped; a reader that does not keep up
    /// loses lines, never slows the host.
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
