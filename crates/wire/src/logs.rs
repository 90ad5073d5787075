//! One log line, as stored, streamed and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of a machine's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogEntry {
    /// Position in the machine's log; grows, with gaps where lines were dropped.
    pub offset: u64,
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// `app` (stdout, stderr), `machine` (pid 1), `runner` (the host), `proxy` (the edge).
    pub provider: String,
    /// `info`, `error`, `warn`.
    pub level: String,
    /// Machine id.
    pub instance: String,
    /// Region code.
    pub region: String,
    /// The line, without its end; invalid UTF-8 is replaced.
    pub message: String,
    /// `container` or `process`: its name, on lines of a machine with several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// Which lines of an app's log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogQuery {
    /// Only this machine.
    pub instance: Option<String>,
    /// Only this region.
    pub region: Option<String>,
    /// Only lines after this time, nanoseconds since the epoch.
    pub after: Option<i64>,
    /// Newest lines to begin with. With `after` and without this it is the oldest
    /// lines after that time, as many as fit into an answer.
    pub tail: Option<u32>,
    /// Only machines created since then, milliseconds since the epoch.
    #[serde(default)]
    pub since_ms: u64,
    /// Send new lines as they come.
    #[serde(default)]
    pub follow: bool,
}

/// A page of an app's log, as <https://fly.io/docs/monitoring/logs-api-options/> has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogPage {
    /// Lines in order of time.
    pub data: Vec<LogItem>,
    /// Where the next page begins.
    pub meta: LogPageMeta,
}

/// Where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogPageMeta {
    /// `next_token` of the next request; empty while there are no lines.
    pub next_token: String,
}

/// One line of a page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogItem {
    /// Unique in the app.
    pub id: String,
    /// Always `log`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The line.
    pub attributes: LogAttributes,
}

/// A line with where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogAttributes {
    /// RFC 3339 with nanoseconds.
    pub timestamp: String,
    /// The line, without its end.
    pub message: String,
    /// `info`, `error`, `warn`.
    pub level: String,
    /// Machine id.
    pub instance: String,
    /// Region code.
    pub region: String,
    /// The same, and the provider.
    pub meta: LogMeta,
}

/// Where a line comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogMeta {
    /// Machine id.
    pub instance: String,
    /// Region code.
    pub region: String,
    /// Origin.
    pub event: LogOrigin,
}

/// Origin of a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogOrigin {
    /// As [`LogEntry::provider`].
    pub provider: String,
}
