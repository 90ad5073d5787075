//! Logs of an app.

use crate::streams::{Events, Lines, ServerEvent};
use crate::transport::Call;
use crate::{Client, Error};
use reqwest::Method;
use wire::logs::LogEntry;

/// Which lines of an app's log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSearch {
    /// Only of this machine, by id or name.
    pub instance: Option<String>,
    /// Only of this region.
    pub region: Option<String>,
    /// Only with this text.
    pub search: Option<String>,
    /// Only of these levels.
    pub levels: Vec<String>,
    /// Only since then: how long ago, or a time.
    pub since: Option<String>,
    /// The newest lines to begin with.
    pub tail: Option<u32>,
}

impl Client {
    /// Log lines of an app's machines that are there, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs(&self, app: &str, search: &LogSearch) -> Result<Lines<LogEntry>, Error> {
        let call = self.log_call(app, search, false);
        let name = call.name.clone();
        Ok(Lines::new(name, self.send(call).await?))
    }

    /// The same, and then those that come, without end. `after` is the id of the last event of
    /// an earlier stream: this one continues there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn follow_logs(
        &self,
        app: &str,
        search: &LogSearch,
        after: Option<&str>,
    ) -> Result<LogEvents, Error> {
        let mut call = self.log_call(app, search, true).header("accept", "text/event-stream");
        if let Some(after) = after {
            call = call.header("last-event-id", after);
        }
        let name = call.name.clone();
        Ok(Events::new(name, self.send(call).await?))
    }

    fn log_call(&self, app: &str, search: &LogSearch, follow: bool) -> Call {
        let mut pairs = vec![("follow", follow.to_string())];
        pairs.extend(search.instance.clone().map(|v| ("instance", v)));
        pairs.extend(search.region.clone().map(|v| ("region", v)));
        pairs.extend(search.search.clone().map(|v| ("q", v)));
        if !search.levels.is_empty() {
            pairs.push(("level", search.levels.join(",")));
        }
        pairs.extend(search.since.clone().map(|v| ("since", v)));
        pairs.extend(search.tail.map(|v| ("tail", v.to_string())));
        self.call(Method::GET, &["v1", "apps", app, "logs"]).query(&pairs)
    }
}

/// A followed log.
pub type LogEvents = Events<LogEntry>;
/// A line of it, or a new id alone.
pub type LogEvent = ServerEvent<LogEntry>;
