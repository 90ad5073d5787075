//! What everybody may know of a machine, and waiting for it to change.

use crate::agent::Agent;
use crate::record::Record;
use model::address::{Addresses, uncompressed};
use model::id::InstanceId;
use model::life::{State, Want};
use rt::clock::rfc3339;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::machines::{Machine, MachineEvent, WaitResult};
use wire::routes::{Route, RouteState};
use wire::worker::{HostError, WaitFor};

/// Steps that a waiter may look back on.
const REMEMBERED: usize = 64;
/// Events shown with a machine.
pub(crate) const SHOWN_EVENTS: usize = 20;

/// One machine as of now. Replaced whole at every change.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) record: Record,
    pub(crate) addresses: Option<Addresses>,
    /// Newest first.
    pub(crate) events: VecDeque<MachineEvent>,
    /// Every state it came to, oldest first: a waiter that was not looking
    /// must not miss a state that passed quickly.
    steps: VecDeque<Step>,
    next_step: u64,
    /// Ports reachable from the host.
    pub(crate) listening: BTreeSet<u16>,
    /// Milliseconds by stage of the start that made it `started`, in order.
    pub(crate) stages: Vec<(String, f64)>,
    /// There while its guest can be spoken to.
    pub(crate) agent: Option<Arc<Agent>>,
}

#[derive(Clone, Debug)]
struct Step {
    number: u64,
    state: State,
    instance: InstanceId,
    event: String,
}

impl View {
    pub(crate) fn new(
        record: Record,
        addresses: Option<Addresses>,
        events: Vec<MachineEvent>,
    ) -> Self {
        let mut view = Self {
            record: record.clone(),
            addresses,
            events: events.into(),
            steps: VecDeque::new(),
            next_step: 0,
            listening: BTreeSet::new(),
            stages: Vec::new(),
            agent: None,
        };
        view.record(record, Vec::new());
        view
    }

    /// Takes over what has just become durable.
    pub(crate) fn record(&mut self, record: Record, events: Vec<MachineEvent>) {
        for event in events {
            self.events.push_front(event);
        }
        self.events.truncate(SHOWN_EVENTS);
        let event = self.events.front().map_or(String::new(), |event| event.id.clone());
        let number = self.next_step;
        self.next_step += 1;
        let (state, instance) = (record.state, record.instance);
        self.steps.push_back(Step { number, state, instance, event });
        if self.steps.len() > REMEMBERED {
            self.steps.pop_front();
        }
        self.record = record;
    }

    /// As the API shows it.
    pub(crate) fn machine(&self, region: &str, isolation: &str, summary: bool) -> Machine {
        let record = &self.record;
        let instance = record.instance.to_string();
        Machine {
            id: record.id.to_string(),
            name: record.name.to_string(),
            state: record.state.as_str().into(),
            region: region.into(),
            image_ref: record.image.clone(),
            instance_id: instance.clone(),
            version: instance,
            private_ip: self.addresses.map_or(String::new(), |a| uncompressed(a.ipv6)),
            created_at: rfc3339(record.created_ms),
            updated_at: rfc3339(record.updated_ms),
            config: (!summary).then(|| record.config.clone()),
            incomplete_config: None,
            events: if summary { Vec::new() } else { self.events.iter().cloned().collect() },
            checks: Vec::new(),
            nonce: None,
            host_status: "ok".into(),
            host_features: Vec::new(),
            cordoned: record.cordoned,
            isolation: Some(isolation.into()),
            private_ipv4: self.addresses.map(|a| a.ipv4.to_string()),
        }
    }

    /// As the edge sees it; `None` once it is gone.
    pub(crate) fn route(&self, region: &str) -> Option<Route> {
        let record = &self.record;
        let address = self.addresses?.ipv4;
        let env = record.config.env.as_ref();
        Some(Route {
            app: record.app.to_string(),
            machine: record.id.to_string(),
            region: region.into(),
            instance: record.instance.to_string(),
            state: route_state(record, self.agent.is_some()),
            address,
            listening: match record.state {
                State::Started => self.listening.iter().copied().collect(),
                _ => Vec::new(),
            },
            stages_ms: match record.state {
                State::Started => self.stages.clone(),
                _ => Vec::new(),
            },
            cordoned: record.cordoned,
            services: record.config.services.clone().unwrap_or_default(),
            primary_region: env.and_then(|env| env.get("PRIMARY_REGION")).cloned(),
            last_failure: record.failure.clone(),
            suspended: record.state == State::Suspended,
        })
    }
}

/// `up` says that its VM runs.
fn route_state(record: &Record, up: bool) -> RouteState {
    let standby = record.config.standbys.as_ref().is_some_and(|of| !of.is_empty());
    match (record.state, record.want) {
        (State::Destroying | State::Destroyed | State::Failed, _) | (_, Want::Destroy) => {
            RouteState::Unavailable
        }
        (State::Started, _) => RouteState::Started,
        // On its way down, though it comes up again.
        (State::Restarting | State::Replacing, Want::Run) if up => RouteState::Stopping,
        // One that is being suspended goes on at once, or comes back as soon as it
        // is down.
        (
            State::Starting
            | State::Restarting
            | State::Replacing
            | State::Suspending
            | State::Created,
            Want::Run,
        ) => RouteState::Starting,
        (
            State::Starting
            | State::Restarting
            | State::Replacing
            | State::Stopping
            | State::Suspending,
            _,
        ) => RouteState::Stopping,
        // Only the failure of its primary's host starts a standby (L027).
        (State::Created | State::Stopped | State::Suspended, _) if standby => {
            RouteState::Unavailable
        }
        (State::Created | State::Stopped | State::Suspended, _) => RouteState::Asleep,
    }
}

/// Returns once the machine is, or since the call has been, in a state that is
/// waited for. Nothing is polled: every change of the view wakes it.
pub(crate) async fn wait(
    mut views: watch::Receiver<Arc<View>>,
    wait: &WaitFor,
) -> Result<WaitResult, HostError> {
    let deadline = Duration::from_millis(wait.timeout_ms);
    // Who names an event looks back to it; others see what is now and comes.
    let from = match wait.from_event {
        Some(_) => 0,
        None => views.borrow().next_step.saturating_sub(1),
    };
    let waited = tokio::time::timeout(deadline, async {
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(outcome) = look(&view, from, wait) {
                return outcome;
            }
            if views.changed().await.is_err() {
                let gone = "the machine is gone or its host is stopping";
                return Err(HostError::NotFound(gone.into()));
            }
        }
    });
    waited.await.unwrap_or_else(|_| {
        let state = views.borrow().record.state;
        let wanted = wait.states.join(" or ");
        Err(HostError::Timeout(format!(
            "machine did not reach {wanted} within {} s; it is {state}",
            deadline.as_secs()
        )))
    })
}

fn look(view: &View, from: u64, wait: &WaitFor) -> Option<Result<WaitResult, HostError>> {
    let newer = |step: &&Step| wait.from_event.as_ref().is_none_or(|event| step.event > *event);
    let steps = view.steps.iter().filter(|step| step.number >= from).filter(newer);
    for step in steps {
        let current = step.number + 1 == view.next_step;
        if !is_reached(step, wait, current.then_some(&view.record)) {
            continue;
        }
        return Some(Ok(WaitResult {
            ok: true,
            state: step.state.as_str().into(),
            version: step.instance.to_string(),
            event_id: step.event.clone(),
        }));
    }
    let record = &view.record;
    let hopeless = matches!(record.state, State::Failed | State::Destroyed);
    hopeless.then(|| {
        let why = record.failure.as_deref().unwrap_or("it was destroyed");
        Err(HostError::Conflict(format!(
            "machine failed to reach desired state, {}: it is {}: {why}",
            wait.states.join(" or "),
            record.state
        )))
    })
}

/// `current` is the record if the step is the newest.
fn is_reached(step: &Step, wait: &WaitFor, current: Option<&Record>) -> bool {
    let asked = |word: &str| wait.states.iter().any(|state| state == word);
    let version = wait.version.as_deref().and_then(|text| text.parse::<InstanceId>().ok());
    if version.is_some_and(|version| version < step.instance) {
        // That version has been replaced (L005): nothing of it runs.
        return asked("stopped") || asked("destroyed") || asked("replaced") || asked("settled");
    }
    if version.is_some_and(|version| version != step.instance) {
        return false;
    }
    let about_to_start = |record: &Record| {
        let down = matches!(record.state, State::Created | State::Suspended | State::Stopped);
        down && record.want == Want::Run
    };
    let settled = current.is_some_and(|r| step.state.is_settled() && !about_to_start(r));
    asked(step.state.as_str())
        || (asked("settled") && settled)
        // A machine that never ran is as good as stopped (release commands wait for that).
        || (asked("stopped") && step.state == State::Created && settled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use model::id::EventId;
    use wire::worker::Source;

    fn waiting(states: &[&str], timeout_ms: u64) -> WaitFor {
        let states = states.iter().map(|&s| s.into()).collect();
        WaitFor { states, timeout_ms, ..WaitFor::default() }
    }

    fn at(view: &mut View, state: State) {
        let mut record = view.record.clone();
        record.state = state;
        view.record(record, Vec::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_passed_quickly_is_not_missed() {
        let (sender, views) = watch::channel(Arc::new(View::new(sample(), None, Vec::new())));
        let waiter =
            rt::Tasks::new().spawn(async move { wait(views, &waiting(&["started"], 5000)).await });
        tokio::task::yield_now().await;
        let mut view = (**sender.borrow()).clone();
        for state in [State::Starting, State::Started, State::Stopped] {
            at(&mut view, state);
        }
        sender.send_replace(Arc::new(view));
        assert_eq!(waiter.await.unwrap().unwrap().state, "started");
    }

    #[tokio::test(start_paused = true)]
    async fn who_names_an_event_looks_back_to_it() {
        let mut view = View::new(sample(), None, Vec::new());
        for (state, id) in [(State::Stopped, 1), (State::Starting, 2), (State::Started, 3)] {
            let mut record = view.record.clone();
            record.state = state;
            let id = EventId::new(id, 1);
            view.record(record, vec![super::super::new_event(id, "x", state, Source::Host, 1)]);
        }
        let (_sender, views) = watch::channel(Arc::new(view));
        let mut wanted = waiting(&["stopped"], 10);
        wanted.from_event = Some(EventId::new(1, 0).to_string());
        assert_eq!(wait(views.clone(), &wanted).await.unwrap().state, "stopped");
        wanted.from_event = Some(EventId::new(1, 1).to_string());
        assert!(wait(views, &wanted).await.is_err(), "it is not newer than itself");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_end_in_time_or_when_hopeless() {
        let mut view = View::new(sample(), None, Vec::new());
        at(&mut view, State::Stopping);
        let (sender, views) = watch::channel(Arc::new(view.clone()));
        let late = wait(views.clone(), &waiting(&["stopped"], 1000)).await.unwrap_err();
        assert!(matches!(&late, HostError::Timeout(text) if text.contains("it is stopping")));
        view.record.failure = Some("no entrypoint".into());
        at(&mut view, State::Failed);
        sender.send_replace(Arc::new(view));
        let failed = wait(views.clone(), &waiting(&["started"], 1000)).await.unwrap_err();
        assert!(matches!(&failed, HostError::Conflict(text) if text.contains("no entrypoint")));
        assert!(wait(views, &waiting(&["failed"], 1000)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn created_and_about_to_start_is_not_settled() {
        let view = View::new(sample(), None, Vec::new());
        let (sender, views) = watch::channel(Arc::new(view.clone()));
        assert!(wait(views.clone(), &waiting(&["settled"], 10)).await.is_err());
        let mut idle = view;
        let mut record = idle.record.clone();
        record.want = Want::Stop;
        idle.record(record, Vec::new());
        sender.send_replace(Arc::new(idle));
        assert!(wait(views.clone(), &waiting(&["settled"], 10)).await.is_ok());
        assert!(wait(views, &waiting(&["stopped"], 10)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_version_counts_as_replaced() {
        let old = sample().instance;
        let mut view = View::new(sample(), None, Vec::new());
        let mut record = view.record.clone();
        (record.instance, record.state) = (InstanceId::new(50, 1), State::Started);
        view.record(record, Vec::new());
        let (_sender, views) = watch::channel(Arc::new(view));
        let mut wanted = waiting(&["started"], 10);
        wanted.version = Some(old.to_string());
        assert!(wait(views.clone(), &wanted).await.is_err());
        wanted.states = vec!["stopped".into()];
        assert!(wait(views, &wanted).await.is_ok());
    }
}
