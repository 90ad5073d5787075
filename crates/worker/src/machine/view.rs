//! What is shown of a machine: to the API and, as its route, to the edges.

use crate::agent::Agent;
use crate::record::Record;
use model::address::{Addresses, uncompressed};
use model::id::InstanceId;
use model::life::{State, Want};
use rt::clock::rfc3339;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use wire::machines::{Machine, MachineEvent};
use wire::routes::{Route, RouteState};

/// State changes that a waiter may look back on.
const KEPT_CHANGES: usize = 64;
/// Events shown with a machine.
pub(crate) const SHOWN_EVENTS: usize = 20;

/// One machine as it is now. Replaced as a whole at every change.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) record: Record,
    pub(crate) addresses: Option<Addresses>,
    /// Newest first.
    pub(crate) events: VecDeque<MachineEvent>,
    /// The newest state changes, oldest first: a waiter must not miss a state that
    /// lasted only a moment.
    pub(super) changes: VecDeque<StateChange>,
    pub(super) next_change: u64,
    /// Ports that listen and can be reached from the host.
    pub(crate) listening: BTreeSet<u16>,
    /// Milliseconds by stage of the start that made it `started`, in order.
    pub(crate) stages: Vec<(String, f64)>,
    /// The session with the guest, if there is one.
    pub(crate) agent: Option<Arc<Agent>>,
}

/// One durable change.
#[derive(Clone, Debug)]
pub(super) struct StateChange {
    pub(super) number: u64,
    pub(super) state: State,
    pub(super) instance: InstanceId,
    /// Id of the newest event as of then.
    pub(super) event: String,
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
            changes: VecDeque::new(),
            next_change: 0,
            listening: BTreeSet::new(),
            stages: Vec::new(),
            agent: None,
        };
        view.record(record, Vec::new());
        view
    }

    /// Shows what has just become durable.
    pub(crate) fn record(&mut self, record: Record, events: Vec<MachineEvent>) {
        for event in events {
            self.events.push_front(event);
        }
        self.events.truncate(SHOWN_EVENTS);
        let event = self.events.front().map_or(String::new(), |event| event.id.clone());
        let number = self.next_change;
        self.next_change += 1;
        let (state, instance) = (record.state, record.instance);
        self.changes.push_back(StateChange { number, state, instance, event });
        if self.changes.len() > KEPT_CHANGES {
            self.changes.pop_front();
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

    /// As the edge sees it; `None` once it is destroyed.
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

/// `up` says that there is a session with its guest.
fn route_state(record: &Record, up: bool) -> RouteState {
    let standby = record.config.standbys.as_ref().is_some_and(|of| !of.is_empty());
    match (record.state, record.want) {
        (State::Destroying | State::Destroyed | State::Failed, _) | (_, Want::Destroy) => {
            RouteState::Unavailable
        }
        (State::Started, _) => RouteState::Started,
        // Stopping, and started again after that.
        (State::Restarting | State::Replacing, Want::Run) if up => RouteState::Stopping,
        // A machine that is being suspended is resumed at once, or started again as
        // soon as it is down.
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
        // A standby is started only when the host of its primary fails
        // (fly.io/docs/machines/api/machines-resource, `standbys`).
        (State::Created | State::Stopped | State::Suspended, _) if standby => {
            RouteState::Unavailable
        }
        (State::Created | State::Stopped | State::Suspended, _) => RouteState::Asleep,
    }
}
