//! The published view of a machine: for the API and, as its route, for the edges.

use crate::agent::{Agent, UnitStates};
use crate::checks::health::unproven;
use crate::checks::spec::covered_ports;
use crate::db::CHECK_EVENT;
use crate::record::Record;
use crate::units;
use host_api::{Route, RouteState, ServiceHealth};
use model::address::{Addresses, uncompressed};
use model::id::{BootId, InstanceId};
use model::life::{State, Want};
use rt::clock::rfc3339;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use wire::machines::{Machine, MachineEvent};

/// State changes that a waiter may look back on.
const KEPT_CHANGES: usize = 64;
/// Events shown with a machine.
pub(crate) const SHOWN_EVENTS: usize = 20;
/// Those of them that may be of checks while others wait.
const SHOWN_CHECKS: usize = 5;

/// One machine as it is now. Replaced as a whole at every change.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) record: Record,
    pub(crate) addresses: Option<Addresses>,
    /// Newest first.
    pub(crate) events: VecDeque<Arc<MachineEvent>>,
    /// The newest state changes, oldest first: a waiter must not miss a state that
    /// lasted only a moment.
    pub(super) changes: VecDeque<StateChange>,
    pub(super) next_change: u64,
    /// Ports that listen and can be reached from the host.
    pub(crate) listening: BTreeSet<u16>,
    /// What its processes or containers do, if it has several.
    pub(crate) units: UnitStates,
    /// Milliseconds by stage of the start that made it `started`, in order.
    pub(crate) stages: Vec<(String, f64)>,
    /// The session with the guest, if there is one.
    pub(crate) agent: Option<Arc<Agent>>,
    /// Health of the ports that readiness checks cover, and the boot that they saw.
    pub(crate) health: Option<(BootId, Vec<ServiceHealth>)>,
    /// Why there can be no session with the guest of a VM that runs, if so.
    pub(crate) unreachable: Option<String>,
}

/// One durable change of state, instance or events.
#[derive(Clone, Debug)]
pub(super) struct StateChange {
    pub(super) number: u64,
    pub(super) state: State,
    pub(super) instance: InstanceId,
    /// Id of the newest event as of then that is none of a check.
    pub(super) event: String,
    /// State or instance are others than before.
    pub(super) entered: bool,
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
            events: events.into_iter().map(Arc::new).collect(),
            changes: VecDeque::new(),
            next_change: 0,
            listening: BTreeSet::new(),
            units: UnitStates::new(),
            stages: Vec::new(),
            agent: None,
            health: None,
            unreachable: None,
        };
        view.record(record, Vec::new());
        view
    }

    /// Shows what has just become durable.
    pub(crate) fn record(&mut self, record: Record, events: Vec<MachineEvent>) {
        for event in events {
            self.events.push_front(Arc::new(event));
        }
        self.trim_events();
        // A check that fails or passes is no entry into the state.
        let mut events = self.events.iter().filter(|event| event.kind != CHECK_EVENT);
        let event = events.next().map_or(String::new(), |event| event.id.clone());
        self.note_change(record.state, record.instance, event);
        self.record = record;
    }

    /// The events that are shown, newest first.
    pub(crate) fn events(&self) -> impl Iterator<Item = &MachineEvent> + Clone {
        self.events.iter().map(|event| &**event)
    }

    /// Checks that flap must not displace the events of the machine's life.
    fn trim_events(&mut self) {
        while self.events.len() > SHOWN_EVENTS {
            let is_check = |event: &Arc<MachineEvent>| event.kind == CHECK_EVENT;
            let checks = self.events.iter().filter(|event| is_check(event)).count();
            let oldest = self.events.iter().rposition(is_check).filter(|_| checks > SHOWN_CHECKS);
            let at = oldest.unwrap_or(self.events.len() - 1);
            self.events.remove(at);
        }
    }

    /// Labels and the like change without one: they must not displace the states that a
    /// waiter looks back on.
    fn note_change(&mut self, state: State, instance: InstanceId, event: String) {
        let newest = self.changes.back();
        let stays = |newest: &StateChange| (newest.state, newest.instance) == (state, instance);
        let entered = !newest.is_some_and(stays);
        if !entered && newest.is_some_and(|newest| newest.event == event) {
            return;
        }
        let number = self.next_change;
        self.next_change += 1;
        self.changes.push_back(StateChange { number, state, instance, event, entered });
        if self.changes.len() > KEPT_CHANGES {
            self.changes.pop_front();
        }
    }

    /// As the API shows it; `region` is that of its host.
    pub(crate) fn machine(&self, region: &str, isolation: &str, summary: bool) -> Machine {
        let record = &self.record;
        let instance = record.instance.to_string();
        Machine {
            id: record.id.to_string(),
            name: record.name.to_string(),
            state: record.state.as_str().into(),
            region: record.region(region).into(),
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
            containers: units::statuses(&record.config, &self.units),
            busy_until: record.busy_until.map(rfc3339),
            nonce: None,
            lease: None,
            host_status: "ok".into(),
            host_features: Vec::new(),
            cordoned: record.cordoned,
            isolation: Some(isolation.into()),
            private_ipv4: self.addresses.map(|a| a.ipv4.to_string()),
            secrets_version: record.secrets_version.filter(|version| *version > 0),
            skip_secrets: record.skip_secrets,
        }
    }

    /// As the edge sees it, on a host in `region`; `None` once it is destroyed or another host's.
    pub(crate) fn route(&self, region: &str) -> Option<Route> {
        let record = &self.record;
        if record.given_up.is_some() || self.addresses.is_none() {
            return None;
        }
        let env = record.config.env.as_ref();
        let started = record.state == State::Started;
        Some(Route {
            app: record.app,
            app_name: record.app_name.clone(),
            machine: record.id,
            epoch: record.epoch,
            region: record.region(region).into(),
            instance: record.instance,
            boot: record.boot,
            state: route_state(record, self.agent.is_some()),
            listening: match started {
                true => self.listening.iter().copied().collect(),
                false => Vec::new(),
            },
            cordoned: record.cordoned,
            services: record.config.services.clone().unwrap_or_default(),
            disable_autostart: record.config.disable_machine_autostart == Some(true),
            primary_region: env.and_then(|env| env.get("PRIMARY_REGION")).cloned(),
            last_failure: record.failure.clone(),
            suspended: record.state == State::Suspended,
            started_ms: self.started_ms(),
            stages_ms: if started { self.stages.clone() } else { Vec::new() },
            health: if started { self.port_health() } else { Vec::new() },
        })
    }

    /// Health of the ports that readiness checks cover; unproven until they have seen
    /// this boot.
    fn port_health(&self) -> Vec<ServiceHealth> {
        match &self.health {
            Some((boot, health)) if Some(*boot) == self.record.boot => health.clone(),
            _ => unproven(covered_ports(&self.record.config)),
        }
    }

    /// When it was last started, by its newest events; 0 if they have no start.
    pub(crate) fn started_ms(&self) -> u64 {
        let started = |event: &&MachineEvent| event.kind == "start" && event.status == "started";
        let event = self.events().find(started);
        event.map_or(0, |event| u64::try_from(event.timestamp).unwrap_or(0))
    }
}

/// `up`: there is a session with its guest.
fn route_state(record: &Record, up: bool) -> RouteState {
    let standby = record.is_standby();
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::sample;
    use model::address::Ipv4Pool;
    use model::id::MachineId;

    /// The route of a machine that has just been created.
    pub(crate) fn route(machine: MachineId) -> Route {
        let record = Record { id: machine, ..sample() };
        let pool = Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap();
        let slot = record.slot.unwrap();
        let addresses = model::address::of_machine(pool, slot, record.network, record.number);
        View::new(record, addresses, Vec::new()).route("here").unwrap()
    }
}
