//! `events[]` of a machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// Something that happened to a machine; newest first in lists.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "EventJson")]
#[schemars(into = "EventJson")]
pub struct MachineEvent {
    /// Unique id, a ULID.
    pub id: String,
    /// `launch`, `start`, `stop`, `suspend`, `exit`, `update`, `restart`, `destroy`, …
    pub kind: String,
    /// The state it led to or reports, such as `created` or `stopped`.
    pub status: String,
    /// Who caused it: `user`, `flyd` (the host) or `proxy` (the edge).
    pub source: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Details; always there for `exit`.
    pub request: Option<EventDetails>,
}

/// A [`MachineEvent`] in JSON. `request` has only what Fly's API has there, since typed
/// clients know no more; our additions stand beside it. Events that were stored before
/// have them in `request`.
#[derive(Deserialize, JsonSchema)]
struct EventJson {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    source: String,
    timestamp: i64,
    #[serde(default)]
    request: Option<EventDetails>,
    #[serde(flatten)]
    additions: Additions,
}

#[derive(Deserialize, JsonSchema)]
struct Additions {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    stages_ms: Option<BTreeMap<String, f64>>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    resumed: Option<bool>,
}

/// The same as it is written. It borrows: lists of machines write many events.
#[derive(Serialize)]
struct EventOut<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    status: &'a str,
    source: &'a str,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stages_ms: Option<&'a BTreeMap<String, f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
}

#[derive(Serialize)]
struct RequestOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_event: Option<&'a ExitEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_count: Option<u32>,
}

impl Serialize for MachineEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, kind, status, source, timestamp, request } = self;
        let nothing = EventDetails::default();
        let EventDetails { exit_event, restart_count, reason, stages_ms, origin, resumed } =
            request.as_ref().unwrap_or(&nothing);
        let (exit_event, restart_count) = (exit_event.as_ref(), *restart_count);
        let request = (exit_event.is_some() || restart_count.is_some())
            .then_some(RequestOut { exit_event, restart_count });
        let (reason, origin) = (reason.as_deref(), origin.as_deref());
        let (stages_ms, resumed, timestamp) = (stages_ms.as_ref(), *resumed, *timestamp);
        EventOut {
            id,
            kind,
            status,
            source,
            timestamp,
            request,
            reason,
            stages_ms,
            origin,
            resumed,
        }
        .serialize(serializer)
    }
}

impl From<EventJson> for MachineEvent {
    fn from(json: EventJson) -> Self {
        let EventJson { id, kind, status, source, timestamp, request, additions } = json;
        let Additions { reason, stages_ms, origin, resumed } = additions;
        let mut details = request.unwrap_or_default();
        details.reason = reason.or(details.reason);
        details.stages_ms = stages_ms.or(details.stages_ms);
        details.origin = origin.or(details.origin);
        details.resumed = resumed.or(details.resumed);
        let request = (details != EventDetails::default()).then_some(details);
        Self { id, kind, status, source, timestamp, request }
    }
}

/// Details of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub stages_ms: Option<BTreeMap<String, f64>>,
    /// How a start came about: `template` (restored), `cold` (booted; `reason`
    /// has the cause) or `resumed` (from its own snapshot); an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The machine has been resumed from its snapshot; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<bool>,
}

/// How a machine's process ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// An event of a watch: a [`MachineEvent`] with its machine; an Updraft addition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchEvent {
    /// The event, with all its fields beside those below.
    #[serde(flatten)]
    pub event: MachineEvent,
    /// Name of the app.
    pub app_name: String,
    /// Id of the machine.
    pub machine_id: String,
    /// Name of the machine.
    pub machine_name: String,
    /// Region code.
    pub region: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_stand_beside_request_and_are_read_from_both_places() {
        let details = EventDetails {
            restart_count: Some(2),
            origin: Some("template".into()),
            ..EventDetails::default()
        };
        let event = MachineEvent {
            id: "1".into(),
            kind: "start".into(),
            status: "started".into(),
            source: "flyd".into(),
            timestamp: 5,
            request: Some(details),
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["request"], serde_json::json!({"restart_count": 2}));
        assert_eq!((&json["origin"], &json["type"]), (&"template".into(), &"start".into()));
        assert_eq!(serde_json::from_value::<MachineEvent>(json).unwrap(), event);
        let stored = serde_json::json!({"id": "1", "type": "start", "status": "started",
            "source": "flyd", "timestamp": 5,
            "request": {"restart_count": 2, "origin": "template"}});
        assert_eq!(serde_json::from_value::<MachineEvent>(stored).unwrap(), event);
    }
}
