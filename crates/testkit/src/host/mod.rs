//! A host in memory behind the traits of `host-api`: honest about states, ids,
//! epochs and routes, without any VM.
//!
//! - `mod.rs`: the state, and the switches with which a test holds it back or
//!   breaks it.
//! - `reach.rs`: calls that fail, are held back, or lose their answers.
//! - `machines.rs`, `leases.rs`, `memory.rs`, `checks.rs`, `schedules.rs`, `secrets.rs`, `feed.rs`,
//!   `traffic.rs`, `images.rs`, `exec.rs`, `volumes`: the traits by concern.
//!
//! It outlives the process that calls it, as a real host does.

mod checks;
mod exec;
mod feed;
mod images;
mod leases;
mod machines;
mod memory;
mod reach;
mod schedules;
mod secrets;
mod traffic;
mod volumes;

pub use reach::{Pause, Reach};

use crate::CrashPoints;
use host_api::{
    AppSecrets, Caller, CreateMachine, FeedEvent, GuestConnection, GuestListener, HostError,
    HostVolume, KnownHost, LogLine, RouteChange, RoutePosition, Stop,
};
use model::id::{AppId, BootId, Epoch, EventId, HostId, InstanceId, MachineId, VolumeId};
use model::lease::Lease;
use model::life::{Event, State};
use rt::{Clock, Rng};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use wire::logs::LogEntry;
use wire::machines::{CheckReport, Image, Machine, MachineEvent, MachineVersion, ScheduleRun};

/// A host in memory. Clones are one host, as callers with the same crash points see it.
#[derive(Clone, Debug)]
pub struct FakeHost(Arc<Inner>, CrashPoints);

#[derive(Debug)]
struct Inner {
    id: HostId,
    region: String,
    clock: Clock,
    rng: Rng,
    state: Mutex<Store>,
    secrets: Mutex<BTreeMap<AppId, AppSecrets>>,
    /// Grows with every change that a caller may wait for.
    changed: watch::Sender<u64>,
}

/// The state of the host.
#[derive(Debug, Default)]
struct Store {
    machines: BTreeMap<MachineId, FakeMachine>,
    /// Machines given up to another owner, with the epoch of the other.
    given_up: HashMap<MachineId, Epoch>,
    images: BTreeMap<String, Image>,
    logs: Vec<(AppId, LogEntry)>,
    feed: feed::Feed,
    /// Errors with which the next call of a name ends.
    failures: HashMap<String, Vec<HostError>>,
    /// Errors in place of the answer of the next call of a name.
    lost_answers: HashMap<String, HostError>,
    /// Calls of a name that are held back.
    pauses: HashMap<String, Pause>,
    /// The fault of every call.
    reach: Reach,
    /// Callers, oldest first.
    callers: Vec<Caller>,
    calls: Vec<String>,
    /// Idempotency keys of the restarts and signals that were carried out.
    keys: HashSet<String>,
    stops: Vec<Stop>,
    /// Starts and suspends are not completed until the test allows it.
    held: bool,
    worker_epoch: u64,
    generation: u64,
    subscribers: Vec<mpsc::Sender<(u64, RouteChange)>>,
    acknowledged: watch::Sender<u64>,
    upstreams: HashMap<MachineId, SocketAddr>,
    guests: Option<mpsc::Sender<GuestConnection>>,
    /// Its logs have been followed.
    follows_logs: bool,
    drained: Vec<MachineId>,
    sessions: HashMap<MachineId, usize>,
    volumes: BTreeMap<VolumeId, HostVolume>,
    /// GiB that there are for volumes.
    volume_room_gb: u32,
    /// The last lease of each machine.
    leases: HashMap<MachineId, Lease>,
    memory_mib: u64,
    /// Further codes of its region.
    region_codes: Vec<String>,
}

/// One machine.
#[derive(Clone, Debug)]
struct FakeMachine {
    create: CreateMachine,
    epoch: Epoch,
    state: State,
    machine: Machine,
    boot: Option<BootId>,
    listening: Vec<u16>,
    versions: Vec<MachineVersion>,
    /// Its start is that of a suspended machine.
    resumes: bool,
    /// Set by the test.
    checks: Vec<CheckReport>,
    /// Newest first.
    runs: Vec<ScheduleRun>,
}

impl FakeHost {
    /// A host with 4 GiB for machines and no image but `nginx` and `app`.
    pub fn new(id: HostId, region: &str) -> Self {
        let state =
            Store { worker_epoch: 1, memory_mib: 4096, volume_room_gb: 1000, ..Store::default() };
        let inner = Inner {
            id,
            region: region.into(),
            clock: Clock::manual(1_700_000_000_000_000_000),
            rng: Rng::seeded(u64::from(id.0) + 7),
            state: Mutex::new(state),
            secrets: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        Self(Arc::new(inner), CrashPoints::default())
    }

    /// Its number.
    pub fn id(&self) -> HostId {
        self.0.id
    }

    /// It, as the list of hosts has it.
    pub fn known(&self) -> KnownHost {
        KnownHost { id: self.0.id, host: Arc::new(self.clone()) }
    }

    /// Points before and after each change, at which its caller may be killed.
    pub fn points(&self) -> &CrashPoints {
        &self.1
    }

    /// The same host for another process, which is killed at points of its own: calls of
    /// a process that was killed never continue.
    #[must_use]
    pub fn with_points(&self, points: CrashPoints) -> Self {
        Self(self.0.clone(), points)
    }

    /// From now on starts stay in `starting` and suspends in `suspending`
    /// until [`FakeHost::apply_events`].
    pub fn hold(&self, held: bool) {
        self.lock().held = held;
    }

    /// MiB that there are for machines.
    pub fn set_memory(&self, mib: u64) {
        self.lock().memory_mib = mib;
    }

    /// Further codes of its region.
    pub fn set_region_codes(&self, codes: &[&str]) {
        self.lock().region_codes = codes.iter().map(|code| (*code).to_owned()).collect();
    }

    /// Calls that changed something, oldest first: `stop <id>`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The parameters of stops and restarts, oldest first.
    pub fn stops(&self) -> Vec<Stop> {
        self.lock().stops.clone()
    }

    /// Machines that the edge has reported as drained.
    pub fn drained(&self) -> Vec<MachineId> {
        self.lock().drained.clone()
    }

    /// Connections to a machine's ports go to this address.
    pub fn set_upstream(&self, id: MachineId, to: SocketAddr) {
        self.lock().upstreams.insert(id, to);
    }

    /// Sessions beside requests that a machine has.
    pub fn set_sessions(&self, id: MachineId, sessions: usize) {
        self.lock().sessions.insert(id, sessions);
    }

    /// Ports on which a machine's app listens from now on.
    ///
    /// # Panics
    /// There is no such machine.
    pub fn listen(&self, id: MachineId, ports: &[u16]) {
        self.change(id, |kept| {
            kept.listening = ports.to_vec();
            Ok(())
        })
        .expect("the machine is there");
    }

    /// Lets the life table decide about each event in turn.
    ///
    /// # Errors
    /// There is no such machine, or the table refuses an event.
    pub fn apply_events(&self, id: MachineId, events: &[Event]) -> Result<(), HostError> {
        self.change(id, |kept| {
            for event in events {
                let to = kept.state.after(*event);
                let to = to.map_err(|refused| HostError::Conflict(refused.to_string()))?;
                self.enter(kept, *event, to);
            }
            Ok(())
        })
    }

    /// As if the machine had never been.
    pub fn lose(&self, id: MachineId) {
        self.lock().machines.remove(&id);
        self.publish(id);
    }

    /// Ids of the machines that are not destroyed.
    pub fn alive(&self) -> Vec<MachineId> {
        let state = self.lock();
        let alive = state.machines.iter().filter(|(_, kept)| kept.state != State::Destroyed);
        alive.map(|(id, _)| *id).collect()
    }

    /// The worker starts again: subscriptions end, and positions restart at
    /// a larger epoch.
    pub fn restart_worker(&self) {
        let mut state = self.lock();
        state.worker_epoch += 1;
        state.generation = 0;
        state.subscribers.clear();
        state.guests = None;
        drop(state);
        self.touch();
    }

    /// Where the host's table is now.
    pub fn position(&self) -> RoutePosition {
        let state = self.lock();
        let (epoch, generation) = (state.worker_epoch, state.generation);
        RoutePosition { host: self.0.id, epoch, generation }
    }

    /// The newest generation that a subscriber has acknowledged, pushed.
    pub fn acknowledged(&self) -> watch::Receiver<u64> {
        self.lock().acknowledged.subscribe()
    }

    /// Subscriptions of routes that are open.
    pub fn subscribers(&self) -> usize {
        let state = self.lock();
        state.subscribers.iter().filter(|subscriber| !subscriber.is_closed()).count()
    }

    /// There is a subscriber of guests' connections.
    pub fn takes_guests(&self) -> bool {
        self.lock().guests.is_some()
    }

    /// A process in the machine connects to the platform's API; `None` if
    /// there is no subscriber for such connections.
    pub async fn connect_from_guest(
        &self,
        id: MachineId,
        listener: GuestListener,
    ) -> Option<DuplexStream> {
        let app = self.lock().machines.get(&id)?.create.app;
        self.connect_as(id, app, listener).await
    }

    /// The same, whether the host has such a machine or not.
    pub async fn connect_as(
        &self,
        id: MachineId,
        app: AppId,
        listener: GuestListener,
    ) -> Option<DuplexStream> {
        let guests = self.lock().guests.clone()?;
        let (guest, io) = tokio::io::duplex(64 * 1024);
        let connection = GuestConnection { machine: id, app, listener, io: Box::new(io) };
        guests.send(connection).await.ok()?;
        Some(guest)
    }

    /// Adds a line to a machine's log.
    ///
    /// # Panics
    /// There is no such machine.
    pub fn print(&self, id: MachineId, timestamp: i64, message: &str) {
        let app = self.lock().machines.get(&id).expect("the machine is there").create.app;
        let entry = LogEntry { timestamp, ..self.entry(&id.to_string(), "app", "info", message) };
        self.lock().logs.push((app, entry));
        self.touch();
    }

    /// Lines that edges have added.
    pub fn lines_of_edges(&self) -> Vec<String> {
        let state = self.lock();
        let edges = state.logs.iter().filter(|(_, line)| line.provider == "proxy");
        edges.map(|(_, line)| line.message.clone()).collect()
    }

    /// Returns once `ready` holds of the host.
    pub async fn until(&self, ready: impl Fn(&Self) -> bool) {
        let mut changed = self.0.changed.subscribe();
        // The sender lives as long as `self`.
        while !ready(self) {
            let _ = changed.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        self.0.changed.send_modify(|n| *n += 1);
    }

    fn note(&self, call: String) {
        self.lock().calls.push(call);
        self.touch();
    }

    /// A machine that is here, for a caller of this epoch.
    fn owned(&self, id: MachineId, sent: Option<Epoch>) -> Result<FakeMachine, HostError> {
        let state = self.lock();
        if let Some(epoch) = state.given_up.get(&id) {
            return Err(HostError::NotMine { host: self.0.id, epoch: Some(*epoch) });
        }
        let found = state.machines.get(&id).cloned();
        let kept = found.ok_or_else(|| HostError::NotFound(format!("machine not found: {id}")))?;
        match sent {
            Some(sent) if sent < kept.epoch => {
                Err(HostError::StaleEpoch { sent, known: kept.epoch })
            }
            // The machine has another owner by now: this host gives it up.
            Some(sent) if sent > kept.epoch => {
                drop(state);
                self.give_up(id, sent);
                Err(HostError::NotMine { host: self.0.id, epoch: Some(sent) })
            }
            _ => Ok(kept),
        }
    }

    /// The machine has another owner since `epoch`: it is removed here, with
    /// its VM.
    pub fn give_up(&self, id: MachineId, epoch: Epoch) {
        let mut state = self.lock();
        state.machines.remove(&id);
        state.given_up.insert(id, epoch);
        drop(state);
        self.publish(id);
    }

    fn change<T>(
        &self,
        id: MachineId,
        change: impl FnOnce(&mut FakeMachine) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut state = self.lock();
        let found = state.machines.get_mut(&id);
        let kept = found.ok_or_else(|| HostError::NotFound(format!("machine not found: {id}")))?;
        // A change that fails half-way leaves nothing behind.
        let mut next = kept.clone();
        let done = change(&mut next)?;
        *kept = next;
        drop(state);
        self.publish(id);
        Ok(done)
    }

    /// The machine enters a state, with an event of it.
    fn enter(&self, kept: &mut FakeMachine, event: Event, to: State) {
        kept.resumes |= kept.state == State::Suspended && event == Event::Start;
        kept.state = to;
        kept.machine.state = to.as_str().into();
        match to {
            State::Started if kept.boot.is_none() => {
                kept.boot = Some(BootId::new(self.now_ms(), self.0.rng.wide_bits()));
                if !std::mem::take(&mut kept.resumes) {
                    kept.machine.secrets_version = self.version_for_boot(kept);
                }
                let services = kept.machine.config.iter().flat_map(|c| c.services.iter().flatten());
                kept.listening = services.filter_map(|service| service.internal_port).collect();
            }
            State::Started => {}
            _ => {
                kept.boot = None;
                kept.listening = Vec::new();
            }
        }
        let event = self.event(&format!("{event:?}").to_lowercase(), to.as_str());
        kept.machine.events.insert(0, Arc::new(event));
    }

    fn event(&self, kind: &str, status: &str) -> MachineEvent {
        self.0.clock.advance(std::time::Duration::from_millis(1));
        MachineEvent {
            id: EventId::new(self.now_ms(), self.0.rng.wide_bits()).to_string(),
            kind: kind.into(),
            status: status.into(),
            source: "user".into(),
            timestamp: self.now_ms().cast_signed(),
            request: None,
        }
    }

    fn entry(&self, instance: &str, provider: &str, level: &str, message: &str) -> LogEntry {
        LogEntry {
            offset: self.lock().logs.len() as u64 + 1,
            timestamp: self.0.clock.now_ns(),
            provider: provider.into(),
            level: level.into(),
            instance: instance.into(),
            region: self.0.region.clone(),
            message: message.into(),
            meta: BTreeMap::new(),
        }
    }

    fn add_line(&self, line: &LogLine) {
        let machine = line.machine.map(|id| id.to_string()).unwrap_or_default();
        let entry = self.entry(&machine, &line.provider, &line.level, &line.message);
        self.lock().logs.push((line.app, entry));
        self.touch();
    }

    fn instance(&self) -> InstanceId {
        self.0.clock.advance(std::time::Duration::from_millis(1));
        InstanceId::new(self.now_ms(), self.0.rng.wide_bits())
    }

    fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    /// Notifies subscribers of a machine's change.
    fn publish(&self, id: MachineId) {
        let mut state = self.lock();
        if let Some(kept) = state.machines.get(&id) {
            let events: Vec<FeedEvent> = self.feed_events(id, kept).collect();
            events.into_iter().for_each(|event| state.feed.add(event));
        }
        let route = state.machines.get(&id).filter(|kept| kept.state != State::Destroyed);
        let change = match route {
            Some(kept) => RouteChange::Upsert(Box::new(self.route(id, kept))),
            None => RouteChange::Remove { machine: id },
        };
        state.generation += 1;
        let numbered = (state.generation, change);
        state.subscribers.retain(|to| to.try_send(numbered.clone()).is_ok());
        drop(state);
        self.touch();
    }

    /// The events of a machine, oldest first, without numbers.
    fn feed_events<'a>(
        &'a self,
        id: MachineId,
        kept: &'a FakeMachine,
    ) -> impl Iterator<Item = FeedEvent> + 'a {
        let create = &kept.create;
        kept.machine.events.iter().rev().map(move |event| FeedEvent {
            number: 0,
            org: create.org,
            app: create.app,
            app_name: create.app_name.clone(),
            machine: id,
            machine_name: create.name.clone(),
            region: kept.machine.region.clone(),
            event: MachineEvent::clone(event),
        })
    }
}
