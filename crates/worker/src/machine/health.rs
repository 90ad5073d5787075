//! Acts on checks that have changed their status: route, log, event and restart.

use super::down::outcome::note_restart;
use super::events::with_reason;
use super::task::Task;
use crate::checks::health::HealthChange;
use crate::db::CHECK_EVENT;
use crate::record::Record;
use host_api::Source;
use model::check::Status;
use model::life::{Event, State, Want};
use model::restart::{Verdict, verdict};
use std::time::Duration;
use tokio::time::Instant;

/// Events of checks that a machine gets within [`EVENTS_WINDOW`]; further changes are in
/// its log only.
const EVENTS: usize = 10;
const EVENTS_WINDOW: Duration = Duration::from_secs(600);
/// Characters of a check's output in an event or a log line.
const SHOWN_OUTPUT: usize = 200;

impl Task {
    pub(super) async fn on_health(&mut self, change: HealthChange) {
        // Of an earlier run, or of one that is ending.
        if self.record.state != State::Started || self.record.boot != Some(change.boot) {
            return;
        }
        let seen = (change.boot, change.health.clone());
        self.show(|view| view.health = Some(seen));
        let (level, line) = log_line(&change);
        let (app, id) = (self.record.app.to_string(), self.record.id.to_string());
        self.host.logs.append(&app, Some(&id), ("health", level), &line);
        if !change.is_first_pass() && self.may_record_check() {
            let mut event = self.ids.event(CHECK_EVENT, self.record.state, Source::Host);
            event.request = Some(with_reason(summary(&change)));
            self.commit(self.record.clone(), vec![event]).await;
        }
        if change.fails_liveness() {
            self.end_by_liveness(&change).await;
        }
    }

    /// A check that flaps fills neither the database nor the list of events.
    fn may_record_check(&mut self) -> bool {
        let now = Instant::now();
        self.check_events.retain(|at| now.duration_since(*at) < EVENTS_WINDOW);
        let may = self.check_events.len() < EVENTS;
        if may {
            self.check_events.push_back(now);
        }
        may
    }

    /// A machine that fails its liveness check ends as one whose process has failed: its
    /// restart policy decides whether and when it is started again.
    async fn end_by_liveness(&mut self, change: &HealthChange) {
        let now = self.host.clock.now_ms();
        let verdict = verdict(self.record.policy(), false, &self.record.restarts, now);
        let why = format!("liveness check {} failed: {}", change.name, first_line(&change.output));
        let (mut record, kind) = match verdict {
            Verdict::Restart { after } => {
                let Ok(mut record) = self.after(Event::Restart) else { return };
                note_restart(&mut record, now, after);
                (record, "restart")
            }
            Verdict::Stay { exhausted } => {
                let Ok(mut record) = self.after(Event::Stop) else { return };
                record.want = Want::Stop;
                record.failure = Some(give_up(&record, &why, exhausted));
                (record, "stop")
            }
        };
        record.stop = Some(record.stop_request(None, None));
        let text = record.failure.clone().unwrap_or(why);
        self.host.log_line(&record, &format!("Ending the machine: {text}"));
        let mut event = self.ids.event(kind, record.state, Source::Host);
        event.request = Some(with_reason(text));
        self.commit(record, vec![event]).await;
    }
}

/// Why a machine stays down.
fn give_up(record: &Record, why: &str, exhausted: bool) -> String {
    match exhausted {
        true => format!("{why}; it failed again after {} restarts", record.restarts.len()),
        false => format!("{why}; its restart policy is no"),
    }
}

/// Level and text of the line in the app's log. The words of a failure and a recovery are
/// those of the platform (<https://fly.io/docs/reference/health-checks/>).
fn log_line(change: &HealthChange) -> (&'static str, String) {
    let port = change.port.map(|port| format!(" on port {port}")).unwrap_or_default();
    let check = format!("Health check '{}'{port}", change.name);
    match change.to {
        Status::Passing => ("info", format!("{check} is now passing.")),
        Status::Warning => ("warn", format!("{check} has no verdict.")),
        Status::Critical => {
            let output = first_line(&change.output);
            let text = format!("{check} has failed. Your app is not responding properly.");
            ("error", format!("{text} ({output})"))
        }
    }
}

fn summary(change: &HealthChange) -> String {
    let (from, to) = (change.from.as_str(), change.to.as_str());
    format!("{}: {from} -> {to} ({})", change.name, first_line(&change.output))
}

fn first_line(output: &str) -> String {
    output.lines().next().unwrap_or_default().chars().take(SHOWN_OUTPUT).collect()
}
