//! Durable changes of a machine, and telling others about them.

use super::step::Asked;
use super::{Now, Task};
use crate::db::Change;
use crate::machine::view::View;
use crate::ports::Origin;
use crate::record::Record;
use guest_protocol::Exit;
use model::id::{BootId, EventId, InstanceId};
use model::life::{Event, State, Want};
use model::restart::{Policy, Verdict, verdict};
use rt::clock::rfc3339;
use rt::{Clock, Rng};
use std::sync::Arc;
use std::time::Duration;
use wire::machines::{EventDetails, ExitEvent, MachineEvent};
use wire::worker::{HostError, Source};

pub(super) const SIGKILL: i32 = 9;

/// Makes ids that grow, also within one millisecond.
pub(super) struct EventIds {
    clock: Clock,
    rng: Rng,
    last: (u64, u128),
}

impl EventIds {
    /// `earlier` are ids that the new ones must follow, also if the clock was
    /// set back since.
    pub(super) fn new(clock: Clock, rng: Rng, earlier: impl Iterator<Item = (u64, u128)>) -> Self {
        Self { clock, rng, last: earlier.max().unwrap_or((0, 0)) }
    }

    /// Room below the largest ULID for the increments of one millisecond.
    const RANDOM: u128 = (1 << 79) - 1;

    fn next(&mut self) -> (u64, u128) {
        let now = self.clock.now_ms();
        self.last = match self.last {
            (ms, random) if now <= ms => (ms, random + 1),
            _ => (now, self.rng.wide_bits() & Self::RANDOM),
        };
        self.last
    }

    pub(super) fn boot(&mut self) -> BootId {
        let (ms, random) = self.next();
        BootId::new(ms, random)
    }

    pub(super) fn instance(&mut self) -> InstanceId {
        let (ms, random) = self.next();
        InstanceId::new(ms, random)
    }

    pub(super) fn event(&mut self, kind: &str, state: State, source: Source) -> MachineEvent {
        let (ms, random) = self.next();
        new_event(EventId::new(ms, random), kind, state, source, self.clock.now_ms())
    }
}

/// One event without details.
pub(crate) fn new_event(
    id: EventId,
    kind: &str,
    state: State,
    source: Source,
    now_ms: u64,
) -> MachineEvent {
    MachineEvent {
        id: id.to_string(),
        kind: kind.into(),
        status: state.as_str().into(),
        source: match source {
            Source::User => "user",
            Source::Host => "flyd",
            Source::Proxy => "proxy",
        }
        .into(),
        timestamp: i64::try_from(now_ms).unwrap_or(i64::MAX),
        request: None,
    }
}

impl Task {
    /// Makes a change durable and tells everybody, or nothing.
    pub(super) async fn try_commit(
        &mut self,
        mut record: Record,
        events: Vec<MachineEvent>,
        new_version: bool,
    ) -> Result<(), HostError> {
        record.updated_ms = self.host.clock.now_ms();
        let change = Change { events: events.clone(), new_version };
        let saved = self.host.db.save(record.clone(), change).await;
        saved.map_err(|err| HostError::Internal(rt::chain(&err)))?;
        if !record.state.holds_memory() && record.boot.is_none() {
            self.host.capacity.release(record.id);
        }
        self.record = record.clone();
        self.show(|view| view.record(record, events));
        Ok(())
    }

    /// Makes a change durable that has happened already. There is no answer to
    /// refuse, so it is tried until it works (a full disk) or the host stops;
    /// then the next daemon sees the same facts and comes to the same change.
    pub(super) async fn commit(&mut self, record: Record, events: Vec<MachineEvent>) {
        let mut backoff = rt::Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while let Err(err) = self.try_commit(record.clone(), events.clone(), false).await {
            tracing::error!(machine = %record.id, error = %err, "cannot record a change");
            let pause = backoff.pause(&self.host.rng);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.host.tasks.stopping() => return,
            }
        }
    }

    /// Changes what others see.
    pub(super) fn show(&mut self, change: impl FnOnce(&mut View)) {
        let mut view = (**self.views.borrow()).clone();
        change(&mut view);
        self.views.send_replace(Arc::new(view));
        self.publish();
    }

    pub(super) fn publish(&self) {
        let route = self.views.borrow().route(&self.host.config.region);
        self.host.routes.publish(self.record.id, route);
    }

    pub(super) async fn on_running(&mut self, guest_stages: Vec<(String, f64)>) {
        let Now::Up(up) = &mut self.vm else { return };
        if std::mem::replace(&mut up.running, true) {
            return;
        }
        self.tries = 0;
        let unasked = up.asked == Asked::Nothing;
        let mut record = self.record.clone();
        // Its memory is back, or lost for good: the writable layer is this run's.
        let proven = std::mem::replace(&mut record.keep_scratch, false);
        if self.record.state != State::Starting {
            // Resumed, adopted while it ran, or no longer wanted.
            if unasked {
                self.timer = None;
            }
            if proven {
                self.commit(record, Vec::new()).await;
            }
            return;
        }
        self.timer = None;
        record.state = State::Started;
        if let Some(labels) = self.labels.take() {
            record.image.labels = labels;
        }
        let mut event = self.ids.event("start", State::Started, Source::Host);
        let guest = durations(guest_stages);
        self.host.metrics.stages(&guest);
        let stages = rounded(std::mem::take(&mut self.stages).into_iter().chain(guest));
        let (origin, reason) = origin_words(&self.origin);
        origin.inspect(|origin| self.host.metrics.start(origin));
        event.request = Some(EventDetails {
            stages_ms: Some(stages.iter().cloned().collect()),
            origin: origin.map(str::to_owned),
            reason,
            ..EventDetails::default()
        });
        self.show(|view| view.stages = stages);
        self.commit(record, vec![event]).await;
    }

    /// The VM is gone and nothing of it is left.
    pub(super) async fn record_down(&mut self) {
        let unresumable = self.unresumable.take();
        let record = &self.record;
        if let Some(boot) = record.boot.filter(|_| record.exit.is_none()) {
            let suspending = record.state == State::Suspending;
            if suspending && self.host.is_saved(record.id, boot) {
                return self.record_saved(boot).await;
            }
            // It was resumed, and never said a word.
            let lost = record.keep_scratch && record.state == State::Started;
            let lost = lost.then(|| "its VM was lost before it answered".to_owned());
            let why = unresumable.or(lost).filter(|_| record.want == Want::Run);
            if let Some(why) = why {
                return self.record_unresumable(&why).await;
            }
        }
        if let Some(why) = self.failure.take() {
            return self.record_failed(why).await;
        }
        let mut record = self.record.clone();
        let (exit, vm_exit) = (record.exit.take(), std::mem::take(&mut self.vm_exit));
        let unseen = std::mem::take(&mut self.host_was_away) && exit.is_none();
        // A VM from a snapshot that is not used up has never run.
        let begun = self.tries > 0 || record.snapshot.is_some();
        let booting = record.state == State::Starting && begun && exit.is_none();
        if booting && record.want == Want::Run {
            if self.is_last_try() {
                return self.record_failed(lost_words(&vm_exit)).await;
            }
            // The state stays, and another boot is begun.
            record.boot = None;
            return self.commit(record, Vec::new()).await;
        }
        // Its memory is lost, as if its snapshot were: the disk is not (L009).
        record.keep_scratch |= record.state == State::Suspending && exit.is_none();
        // A stop during the pause before a restart finds no VM: nothing exits.
        let ran = record.boot.take().is_some();
        // A VM that ended without a word of its init did not end well.
        let ended = exit.unwrap_or(Exit { code: 128 + SIGKILL, signal: SIGKILL, oom: false });
        let by_itself = matches!(record.state, State::Starting | State::Started);
        let again = match unseen && by_itself {
            true => survives_host(&mut record),
            false => self.is_to_run_again(&mut record, ended),
        };
        record.state = record.state.after(Event::Down { again }).unwrap_or(record.state);
        let requested = record.stop.take().is_some() || self.record.want != Want::Run;
        let mut event =
            self.ids.event(if ran { "exit" } else { "stop" }, record.state, Source::Host);
        event.request = Some(EventDetails {
            exit_event: ran.then(|| ExitEvent {
                requested_stop: requested,
                restarting: again,
                signal: vm_exit.signal,
                exited_at: rfc3339(self.host.clock.now_ms()),
                ..exit_event(ended)
            }),
            restart_count: Some(record.restarts.len() as u32),
            reason: (ran && exit.is_none()).then(|| lost_words(&vm_exit)),
            ..EventDetails::default()
        });
        let mut events = vec![event];
        if record.state == State::Stopped && record.auto_destroy() && record.want != Want::Run {
            record.want = Want::Destroy;
            record.state = State::Destroying;
            events.push(self.ids.event("destroy", State::Destroying, Source::Host));
        }
        self.tries = 0;
        self.commit(record, events).await;
        self.set_restart_timer();
    }

    /// Its snapshot is of no use: the machine is booted instead.
    async fn record_unresumable(&mut self, why: &str) {
        let mut record = self.record.clone();
        record.boot = None;
        record.state = match record.state {
            State::Started => State::Restarting,
            other => other,
        };
        (self.failure, self.host_was_away, self.tries) = (None, false, 0);
        self.vm_exit = Default::default();
        let event = self.give_memory_up(&mut record, why);
        self.commit(record, vec![event]).await;
    }

    /// Whether and when it is started again; notes what the policy has to remember.
    fn is_to_run_again(&self, record: &mut Record, exit: Exit) -> bool {
        if record.want != Want::Run {
            return false;
        }
        if !matches!(record.state, State::Starting | State::Started) {
            return true;
        }
        let now = self.host.clock.now_ms();
        match verdict(record.policy(), exit.code == 0, &record.restarts, now) {
            Verdict::Restart { after } => {
                let at = now + after.as_millis() as u64;
                let window = model::restart::WINDOW.as_millis() as u64;
                record.restarts.retain(|&earlier| now.saturating_sub(earlier) < window);
                record.restarts.push(at);
                record.restart_at = Some(at);
                true
            }
            Verdict::Stay { exhausted } => {
                let tries = record.restarts.len();
                record.failure = exhausted.then(|| {
                    format!("it failed again after {tries} restarts (exit code {})", exit.code)
                });
                // Its owner's wish has been carried out to the end.
                record.want = Want::Stop;
                false
            }
        }
    }

    async fn record_failed(&mut self, why: String) {
        self.host.say(&self.record, &format!("Machine could not be started: {why}"));
        let mut record = self.record.clone();
        record.boot = None;
        record.exit = None;
        record.stop = None;
        record.state = record.state.after(Event::Fail).unwrap_or(State::Failed);
        if record.state == State::Failed {
            record.want = Want::Stop;
            record.failure = Some(why.clone());
        }
        self.tries = 0;
        let mut event = self.ids.event("launch_failed", record.state, Source::Host);
        event.request = Some(EventDetails { reason: Some(why), ..EventDetails::default() });
        self.commit(record, vec![event]).await;
    }

    pub(super) async fn record_gone(&mut self) {
        self.host.forget_link(&self.record).await;
        self.host.remove_machine_dir(self.record.id).await;
        let mut record = self.record.clone();
        record.state = State::Destroyed;
        (record.boot, record.exit, record.slot) = (None, None, None);
        let event = self.ids.event("destroy", State::Destroyed, Source::Host);
        self.commit(record, vec![event]).await;
        self.show(|view| view.addresses = None);
    }
}

/// Whether the machine is to be started again although nobody knows how its
/// process ended: the host was away (a power cut), so what should run runs
/// again. A wish that was being carried out is carried out, whatever the policy.
fn survives_host(record: &mut Record) -> bool {
    if record.state == State::Started && record.policy() == Policy::No {
        record.want = Want::Stop;
    }
    record.want == Want::Run
}

/// What init said of the end of its main process.
fn exit_event(exit: Exit) -> ExitEvent {
    ExitEvent {
        exit_code: exit.code,
        guest_exit_code: if exit.signal == 0 { exit.code } else { 0 },
        guest_signal: exit.signal,
        oom_killed: exit.oom,
        ..ExitEvent::default()
    }
}

/// Stages as they are shown: nobody reads less than a tenth of a millisecond.
pub(super) fn rounded(stages: impl IntoIterator<Item = (String, f64)>) -> Vec<(String, f64)> {
    stages.into_iter().map(|(name, ms)| (name, (ms * 10.0).round() / 10.0)).collect()
}

/// How a start came about, and why in that way.
fn origin_words(origin: &Origin) -> (Option<&'static str>, Option<String>) {
    match origin {
        Origin::Template => (Some("template"), None),
        Origin::Cold(why) => (Some("cold"), Some(why.clone())),
        Origin::Snapshot => (Some("resumed"), None),
        // By a daemon that did not come to record it.
        Origin::Found => (None, None),
    }
}

/// Init counts from its own beginning; a stage's time is since the one before.
fn durations(moments: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let mut last = 0.0;
    let since = |(name, at): (String, f64)| {
        (format!("guest_{name}"), (at - std::mem::replace(&mut last, at)).max(0.0))
    };
    moments.into_iter().map(since).collect()
}

pub(super) fn lost_words(exit: &crate::ports::VmExit) -> String {
    let words = exit.last_words.trim();
    if words.is_empty() {
        "the VM ended without a word of its init".into()
    } else {
        format!("the VM ended without a word of its init; its last words: {words}")
    }
}
