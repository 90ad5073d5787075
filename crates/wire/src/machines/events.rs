//! `events[]` of a machine.

use serde::{Deserialize, Serialize};

/// Something that happened to a machine; newest first in lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineEvent {
    /// Unique id, a ULID.
    pub id: String,
    /// `launch`, `start`, `stop`, `suspend`, `exit`, `update`, `restart`, `destroy`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The state it led to or reports, such as `created` or `stopped`.
    pub status: String,
    /// Who caused it: `user`, `flyd` (the host) or `proxy` (the edge).
    pub source: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Details; always there for `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<EventDetails>,
}

/// Details of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventDetails {
    /// How the process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_event: Option<ExitEvent>,
    /// Restarts in a row so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<u32>,
    /// Why, in words; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds spent per stage of a start; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages_ms: Option<std::collections::BTreeMap<String, f64>>,
    /// How a start came about: `template` (restored), `cold` (booted; `reason`
    /// says why) or `resumed` (from its own snapshot); an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The machine has been resumed from its snapshot; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<bool>,
}

/// How a machine's process ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExitEvent {
    /// Exit code as a shell would show it: 128 + signal if one ended it.
    pub exit_code: i32,
    /// Exit code of the main process itself.
    pub guest_exit_code: i32,
    /// Signal that ended the main process, or 0.
    pub guest_signal: i32,
    /// The guest's kernel ran out of memory and killed it.
    pub oom_killed: bool,
    /// A stop had been asked for.
    pub requested_stop: bool,
    /// The machine is about to be started again.
    pub restarting: bool,
    /// Signal that ended the VM itself, or 0.
    pub signal: i32,
    /// RFC 3339.
    pub exited_at: String,
}
