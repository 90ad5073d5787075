//! One log line, as stored, streamed and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of a machine's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogEntry {
    /// Position in the machine's log; grows, with gaps where lines were dropped.
    pub offset: u64,
    /// Nanoseconds since the epoch; grows from line to line of all logs of a host.
    pub timestamp: i64,
    /// `app` (stdout, stderr), `machine` (pid 1), `runner` (the host), `health` (checks),
    /// `proxy` (the edge).
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

impl LogEntry {
    /// An entry that is no line: all lines of its sender up to this time have been sent. Only in
    /// answers to queries with [`LogQuery::positions`].
    pub fn position(timestamp: i64) -> Self {
        Self {
            offset: 0,
            timestamp,
            provider: String::new(),
            level: String::new(),
            instance: String::new(),
            region: String::new(),
            message: String::new(),
            meta: BTreeMap::new(),
        }
    }

    /// The same, and more stored lines follow it.
    pub fn position_within(timestamp: i64) -> Self {
        Self { offset: 1, ..Self::position(timestamp) }
    }

    /// Whether it is a position. Every line has a provider.
    pub fn is_position(&self) -> bool {
        self.provider.is_empty()
    }
}

/// Levels that lines have, and that a query may name.
pub const LOG_LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

/// Which lines of an app's log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogQuery {
    /// Only this machine.
    pub instance: Option<String>,
    /// Only this region.
    pub region: Option<String>,
    /// Only lines after this time, nanoseconds since the epoch.
    pub after: Option<i64>,
    /// Newest lines to begin with. With `after` and without this it is all lines after that
    /// time, oldest first.
    pub tail: Option<u32>,
    /// Only lines that contain this text, in letters of either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only lines of these levels ([`LOG_LEVELS`]); of all levels if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<String>,
    /// Send a position ([`LogEntry::position`]) after each page of stored lines. Without it an
    /// answer that is not followed ends with its first page: its reader may be of a version that
    /// holds all of it in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub positions: bool,
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
    /// Container, on lines of a machine with several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Process, on lines of a machine with several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// Origin of a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogOrigin {
    /// As [`LogEntry::provider`].
    pub provider: String,
}
