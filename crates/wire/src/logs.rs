//! One log line, as stored, streamed and shown.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of a machine's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
