//! The record of one run.

use rt::clock::rfc3339;
use serde::{Deserialize, Serialize};
use wire::machines::{MachineEvent, ScheduleRun};

/// What has caused a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trigger {
    /// The schedule.
    Schedule,
    /// Runs that were missed.
    Misfire,
    /// A call for a run.
    Manual,
    /// A start of the machine, by its creation too.
    Start,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It waits for another to end.
    Queued,
    Running,
    /// The process has ended with 0.
    Succeeded,
    /// It has ended otherwise, or could not be started.
    Failed,
    /// It was stopped by a request.
    Stopped,
    /// Another run has taken its place.
    Replaced,
    /// Another run was under way.
    Skipped,
    /// The host was not there in time.
    Missed,
    /// The host could not start the machine, such as for lack of memory.
    Refused,
    /// The host's daemon ended before it had started the machine.
    Interrupted,
}

/// One run of a scheduled machine. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// A ULID; later runs have greater ones.
    pub(crate) id: String,
    pub(crate) trigger: Trigger,
    pub(crate) status: Status,
    /// When it was due.
    pub(crate) scheduled_ms: u64,
    pub(crate) started_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) reason: Option<String>,
    /// Idempotency key of the call that has asked for it.
    #[serde(default)]
    pub(crate) call: Option<String>,
}

impl Run {
    pub(crate) fn new(id: String, trigger: Trigger, status: Status, scheduled_ms: u64) -> Self {
        Self {
            id,
            trigger,
            status,
            scheduled_ms,
            started_ms: None,
            ended_ms: None,
            exit_code: None,
            reason: None,
            call: None,
        }
    }

    /// The same, begun.
    #[must_use]
    pub(crate) fn begun(self, now_ms: u64) -> Self {
        Self { status: Status::Running, started_ms: Some(now_ms), ..self }
    }

    /// The same, ended without a process.
    #[must_use]
    pub(crate) fn closed(self, status: Status, now_ms: u64, reason: impl Into<String>) -> Self {
        Self { status, ended_ms: Some(now_ms), reason: Some(reason.into()), ..self }
    }

    /// Whether the machine's events have the start that the run requests. If not, the host's
    /// daemon ended between recording the run and starting the machine.
    pub(crate) fn was_started<'a>(
        &self,
        mut events: impl Iterator<Item = &'a MachineEvent>,
    ) -> bool {
        let since = self.started_ms.unwrap_or(0);
        let is_own = |event: &MachineEvent| {
            let at = u64::try_from(event.timestamp).unwrap_or(0);
            match event.kind.as_str() {
                "start" | "restart" => at >= since,
                // Its start may not be among the events that are shown.
                "exit" | "launch_failed" => at > since,
                _ => false,
            }
        };
        events.any(is_own)
    }

    /// The same, ended as the machine's events have it (newest first).
    #[must_use]
    pub(crate) fn ended<'a>(
        self,
        events: impl Iterator<Item = &'a MachineEvent>,
        now_ms: u64,
    ) -> Self {
        let since = self.started_ms.unwrap_or(0);
        let at = |event: &MachineEvent| u64::try_from(event.timestamp).unwrap_or(0);
        let mut own = events.filter(|event| at(event) >= since);
        let end = own.find(|event| event.kind == "exit" || event.kind == "launch_failed");
        let Some(end) = end else {
            let why = "the machine was not started, or its end was not seen";
            return self.closed(Status::Interrupted, now_ms, why);
        };
        let details = end.request.clone().unwrap_or_default();
        let status = match &details.exit_event {
            Some(exit) if exit.requested_stop && !exit.restarting => Status::Stopped,
            Some(exit) if exit.exit_code == 0 => Status::Succeeded,
            _ => Status::Failed,
        };
        let exit_code = details.exit_event.as_ref().map(|exit| exit.exit_code);
        let ended_ms = Some(at(end).min(now_ms).max(since));
        Self { status, exit_code, ended_ms, reason: details.reason, ..self }
    }

    /// As the API shows it.
    pub(crate) fn shown(&self) -> ScheduleRun {
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let duration = self.started_ms.zip(self.ended_ms);
        ScheduleRun {
            id: self.id.clone(),
            trigger: word(serde_json::to_value(self.trigger).unwrap_or_default()),
            status: word(serde_json::to_value(self.status).unwrap_or_default()),
            scheduled_at: rfc3339(self.scheduled_ms),
            started_at: self.started_ms.map(rfc3339),
            ended_at: self.ended_ms.map(rfc3339),
            duration_ms: duration.map(|(start, end)| end.saturating_sub(start)),
            exit_code: self.exit_code,
            reason: self.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_was_started_if_the_events_since_have_its_start() {
        let run = Run::new("r".into(), Trigger::Schedule, Status::Queued, 0).begun(10);
        for (kind, at, expected) in [
            ("start", 9, false),
            ("start", 10, true),
            ("restart", 11, true),
            ("exit", 10, false),
            ("exit", 11, true),
            ("launch_failed", 11, true),
            ("check", 11, false),
        ] {
            let event = MachineEvent {
                id: String::new(),
                kind: kind.into(),
                status: "stopped".into(),
                source: "flyd".into(),
                timestamp: at,
                request: None,
            };
            assert_eq!(run.was_started([event].iter()), expected, "{kind} at {at}");
        }
        assert!(!run.was_started([].iter()));
    }

    #[test]
    fn runs_of_earlier_versions_are_read() {
        let text = r#"{"id":"r","trigger":"manual","status":"queued","scheduled_ms":1,
            "started_ms":null,"ended_ms":null,"exit_code":null,"reason":null}"#;
        let run: Run = serde_json::from_str(text).unwrap();
        assert_eq!((run.status, run.call), (Status::Queued, None));
    }
}
