//! Schedules of machines and their runs.

use super::Extra;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a schedule is kept; an Updraft addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleOptions {
    /// Zone of the IANA database; absent means UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// `skip` (absent), `queue` or `replace`: a run that is due while another is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// `run_once` (absent) or `skip`: runs that were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One run of a machine with a schedule; an Updraft addition. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleRun {
    /// A ULID; later runs have greater ones.
    pub id: String,
    /// `schedule`, `misfire`, `manual` or `start`.
    pub trigger: String,
    /// `queued`, `running`, `succeeded`, `failed`, `stopped`, `replaced`, `skipped`, `missed`,
    /// `refused` or `interrupted`.
    pub status: String,
    /// When it was due.
    pub scheduled_at: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended, or was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Milliseconds from its begin to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Exit code of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it is in this state, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
