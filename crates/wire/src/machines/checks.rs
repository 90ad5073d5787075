//! Health checks in detail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A check of a machine with its newest run; an Updraft addition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckReport {
    /// Key of the config, or a generated name for service checks.
    pub name: String,
    /// `tcp`, `http` or `script`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `informational`, `readiness` or `liveness`.
    #[serde(rename = "kind")]
    pub purpose: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What the newest run saw.
    pub output: String,
    /// RFC 3339; last change of the status.
    pub updated_at: String,
    /// Successes in a row.
    pub passes: u32,
    /// Failures in a row that count.
    pub failures: u32,
    /// The newest run, if there was one since the host's daemon started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<CheckRun>,
}

/// One run of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRun {
    /// RFC 3339; when it began.
    pub at: String,
    /// Milliseconds it took.
    pub took_ms: f64,
    /// It passed.
    pub passed: bool,
    /// The request, the command or the address.
    pub request: String,
    /// The head of the answer and the begin of its body, the begin of the output, or the error.
    pub response: String,
}
