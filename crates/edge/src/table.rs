//! What the edge knows of all machines, as an immutable snapshot.
//!
//! One [`Keeper`] applies the hosts' changes and publishes snapshots; each core
//! keeps its own `Arc` and looks at one atomic number to learn that there is a
//! newer one, so requests take no shared lock.

use crate::balance::{Candidate, Ready};
use crate::machine::{AppShared, Era, Machine};
use crate::metrics::Metrics;
use crate::timing::host_stages;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::machines::{Port, Service};
use wire::routes::{Route, RouteChange, RouteSnapshot, RouteState};

/// Soft limit of a service that names none (P024).
const SOFT_LIMIT: u32 = 20;

/// All apps as of one moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) apps: HashMap<String, Arc<App>>,
}

/// One app as of one moment.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) shared: Arc<AppShared>,
    pub(crate) rows: Vec<Arc<Row>>,
    /// The machines behind each outside port with an HTTP service.
    ports: Vec<(u16, Vec<Target>)>,
}

/// One machine as of one moment.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) route: Route,
    pub(crate) machine: Arc<Machine>,
    /// Counts the routes of this machine.
    version: u64,
    /// Load of each service, by internal port; kept over changes.
    loads: Vec<(u16, Arc<AtomicU32>)>,
    /// When it last came up.
    came_up: Instant,
    /// The stages of that start.
    stages_ms: Vec<(String, f64)>,
}

/// One machine behind one outside port.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) machine: Arc<Machine>,
    pub(crate) load: Arc<AtomicU32>,
    pub(crate) addr: SocketAddrV4,
    pub(crate) hard: u32,
    /// Each request gets a connection of its own (`connections`, P025).
    pub(crate) fresh: bool,
    /// Answers are passed on without added headers (P017).
    pub(crate) pristine: bool,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) last_failure: Option<String>,
    /// Which of the machine's routes this is.
    pub(crate) version: u64,
    /// The host's stages of its last start, as they are written in answers to
    /// requests that waited for it; none if the service does not want that.
    pub(crate) timing: Option<Arc<str>>,
    pub(crate) came_up: Instant,
    state: RouteState,
    listening: bool,
    cordoned: bool,
    soft: u32,
    autostart: bool,
    suspended: bool,
    remote: bool,
}

impl Target {
    pub(crate) fn candidate(&self) -> Candidate {
        let ready = match self.state {
            _ if self.cordoned => Ready::Away,
            RouteState::Unavailable => Ready::Away,
            RouteState::Asleep | RouteState::Stopping if self.machine.is_waking(self.version) => {
                Ready::Coming
            }
            RouteState::Asleep | RouteState::Stopping => Ready::Asleep,
            RouteState::Starting => Ready::Coming,
            // It is about to stop, though the table does not show it yet.
            RouteState::Started if self.machine.is_draining() => {
                match self.machine.is_waking(self.version) {
                    true => Ready::Coming,
                    false => Ready::Asleep,
                }
            }
            RouteState::Started if self.listening => Ready::Up,
            RouteState::Started => Ready::Coming,
        };
        Candidate {
            ready,
            load: self.load.load(SeqCst),
            soft: self.soft,
            hard: self.hard,
            remote: self.remote,
            autostart: self.autostart,
            suspended: self.suspended,
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.state == RouteState::Started
    }
}

impl App {
    /// The first of `ports` behind which the app has an HTTP service.
    pub(crate) fn targets(&self, ports: &[u16]) -> Option<&[Target]> {
        let behind = |want: &u16| self.ports.iter().find(|(port, _)| port == want);
        ports.iter().find_map(behind).map(|(_, targets)| targets.as_slice())
    }
}

impl Row {
    /// Load of a service.
    pub(crate) fn load(&self, internal_port: u16) -> u32 {
        let found = self.loads.iter().find(|(port, _)| *port == internal_port);
        found.map_or(0, |(_, load)| load.load(SeqCst))
    }
}

/// Limits of a service.
pub(crate) fn limits(service: &Service) -> (u32, u32) {
    let concurrency = service.concurrency.as_ref();
    let hard = concurrency.and_then(|c| c.hard_limit).unwrap_or(u32::MAX).max(1);
    let soft = concurrency.and_then(|c| c.soft_limit).unwrap_or(SOFT_LIMIT);
    (soft.min(hard), hard)
}

/// Where the newest table is found.
#[derive(Debug)]
pub(crate) struct Cell {
    generation: AtomicU64,
    newest: Mutex<Arc<Table>>,
    /// Told the generation; for tasks that act on changes.
    changed: watch::Sender<u64>,
}

impl Cell {
    pub(crate) fn new() -> Self {
        Self {
            generation: AtomicU64::new(0),
            newest: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) fn newest(&self) -> Arc<Table> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Has those who act on changes look again though the table is the same.
    pub(crate) fn nudge(&self) {
        self.changed.send_modify(|_| {});
    }

    fn publish(&self, table: Arc<Table>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = table;
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        self.changed.send_replace(generation);
    }
}

/// One core's copy of the newest table. Its lock is this core's own.
#[derive(Debug)]
pub(crate) struct View {
    cell: Arc<Cell>,
    seen: Mutex<(u64, Arc<Table>)>,
}

impl View {
    pub(crate) fn new(cell: Arc<Cell>) -> Self {
        Self { cell, seen: Mutex::default() }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.cell.generation.load(SeqCst);
        if seen.0 != generation {
            *seen = (generation, self.cell.newest());
        }
        seen.1.clone()
    }
}

/// Applies changes; one task owns it.
#[derive(Debug)]
pub(crate) struct Keeper {
    cell: Arc<Cell>,
    metrics: Metrics,
    region: String,
    /// Outside ports that some listener stands for.
    ports: Vec<u16>,
    apps: HashMap<String, Arc<App>>,
    app_of: HashMap<String, String>,
    /// Machines that have begun to stop since this was last asked for, and their
    /// eras then: a stop may be over before it is looked at.
    stopping: Vec<(Arc<Machine>, Era)>,
}

impl Keeper {
    pub(crate) fn new(cell: Arc<Cell>, metrics: Metrics, region: String, ports: Vec<u16>) -> Self {
        let (apps, app_of, stopping) = Default::default();
        Self { cell, metrics, region, ports, apps, app_of, stopping }
    }

    /// Machines that have begun to stop, and the eras in which they have; to be
    /// asked after [`Keeper::publish`].
    pub(crate) fn take_stopping(&mut self) -> Vec<(Arc<Machine>, Era)> {
        std::mem::take(&mut self.stopping)
    }

    /// Takes a snapshot as the whole truth.
    pub(crate) fn replace(&mut self, snapshot: RouteSnapshot) {
        let mut gone = self.app_of.clone();
        for route in snapshot.routes {
            gone.remove(&route.machine);
            self.upsert(route);
        }
        for machine in gone.keys() {
            self.remove(machine);
        }
        self.publish();
    }

    /// The route's config has not been seen before.
    pub(crate) fn is_new_config(&self, route: &Route) -> bool {
        let rows = self.apps.get(&route.app).map_or(&[][..], |app| &app.rows);
        !rows
            .iter()
            .any(|row| row.route.machine == route.machine && row.route.instance == route.instance)
    }

    /// Takes one change; visible after [`Keeper::publish`].
    pub(crate) fn apply(&mut self, change: RouteChange) {
        match change {
            RouteChange::Upsert(route) => self.upsert(*route),
            RouteChange::Remove { machine } => self.remove(&machine),
        }
    }

    /// Shows what was applied to the cores and to those who wait.
    pub(crate) fn publish(&self) {
        self.cell.publish(Arc::new(Table { apps: self.apps.clone() }));
        for app in self.apps.values() {
            if app.shared.waiting.load(SeqCst) > 0 {
                app.shared.changed.notify_waiters();
            }
        }
    }

    fn upsert(&mut self, route: Route) {
        if self.app_of.get(&route.machine).is_some_and(|app| *app != route.app) {
            self.remove(&route.machine);
        }
        self.app_of.insert(route.machine.clone(), route.app.clone());
        let app = self.apps.get(&route.app);
        let shared = app.map(|app| app.shared.clone());
        let shared = shared.unwrap_or_else(|| Arc::new(new_app(&route.app, &self.metrics)));
        let mut rows = app.map(|app| app.rows.clone()).unwrap_or_default();
        let at = rows.iter().position(|row| row.route.machine == route.machine);
        let old = at.map(|at| &*rows[at]);
        let stops = route.state == RouteState::Stopping
            && old.is_none_or(|old| old.route.state != RouteState::Stopping);
        let row = Arc::new(new_row(route, &shared, old));
        if stops {
            self.stopping.push((row.machine.clone(), row.machine.era()));
        }
        match at {
            Some(at) => rows[at] = row,
            None => rows.push(row),
        }
        self.put(shared, rows);
    }

    fn remove(&mut self, id: &str) {
        let Some(name) = self.app_of.remove(id) else { return };
        let Some(app) = self.apps.get(&name) else { return };
        let mut rows = app.rows.clone();
        rows.retain(|row| {
            row.route.machine != id || {
                row.machine.bump_epoch();
                false
            }
        });
        let shared = app.shared.clone();
        if rows.is_empty() {
            self.apps.remove(&name);
            shared.changed.notify_waiters();
        } else {
            self.put(shared, rows);
        }
    }

    fn put(&mut self, shared: Arc<AppShared>, rows: Vec<Arc<Row>>) {
        let behind = |port: &u16| {
            let targets = rows.iter().filter_map(|row| target(row, *port, &self.region));
            (*port, targets.collect::<Vec<_>>())
        };
        let ports = self.ports.iter().map(behind).filter(|(_, targets)| !targets.is_empty());
        let app = App { shared: shared.clone(), ports: ports.collect(), rows };
        self.apps.insert(shared.name.clone(), Arc::new(app));
    }
}

fn new_app(name: &str, metrics: &Metrics) -> AppShared {
    AppShared {
        name: name.to_owned(),
        waiting: Default::default(),
        changed: Default::default(),
        logged: Default::default(),
        said_waiting_at: Default::default(),
        metrics: metrics.app(name),
    }
}

fn new_row(route: Route, app: &Arc<AppShared>, old: Option<&Row>) -> Row {
    let machine = old.map(|old| old.machine.clone());
    let machine = machine.unwrap_or_else(|| Arc::new(Machine::new(&route.machine, app.clone())));
    let stages_ms = match (route.state, old) {
        (RouteState::Started, _) | (_, None) => route.stages_ms.clone(),
        (_, Some(old)) => old.stages_ms.clone(),
    };
    let same_stages = old.is_some_and(|old| old.stages_ms == stages_ms);
    let was = old.map(|old| old.route.state);
    let is_up = route.state == RouteState::Started;
    let went_on =
        was == Some(RouteState::Stopping) && is_up && same_stages && !stages_ms.is_empty();
    note_state(&machine, was, route.state, went_on);
    if was == Some(RouteState::Started) && is_up && !same_stages {
        // Its way down and up was missed, or this is more news of one start. In
        // either case new connections are right.
        machine.close_resting();
    }
    let came_up = match old {
        Some(old) if !is_up || went_on || was == Some(RouteState::Started) => old.came_up,
        _ => Instant::now(),
    };
    let mut loads: Vec<(u16, Arc<AtomicU32>)> = Vec::new();
    for port in route.services.iter().filter_map(|s| s.internal_port) {
        if loads.iter().all(|(known, _)| *known != port) {
            let kept = old.and_then(|old| old.loads.iter().find(|(p, _)| *p == port));
            loads.push((port, kept.map(|(_, load)| load.clone()).unwrap_or_default()));
        }
    }
    let prompt = route.services.iter().any(|s| s.autostop_after_seconds == Some(0));
    machine.prompt.store(prompt, SeqCst);
    let version = old.map_or(0, |old| old.version + 1);
    Row { route, machine, version, loads, came_up, stages_ms }
}

/// Draws the consequences of a new state for what outlives the snapshot. A
/// machine that was going down and then runs with the stages of the same start
/// `went_on`, as one does that is wanted while it is being suspended: what it has
/// in flight lives.
fn note_state(machine: &Machine, was: Option<RouteState>, is: RouteState, went_on: bool) {
    use RouteState::{Started, Starting, Stopping};
    let was = was.unwrap_or(RouteState::Unavailable);
    // While it stops it may still answer what it has; after that nothing comes.
    if matches!(was, Started | Stopping) && !matches!(is, Started | Stopping) {
        machine.bump_epoch();
    }
    // Before it takes requests again: who waits for the end of its stop must see
    // that it is over, or would keep them away.
    if was == Stopping && is == Started {
        if went_on { machine.close_resting() } else { machine.bump_epoch() }
    }
    let comes_up = was != is && (is == Starting || (is == Started && was != Starting));
    if comes_up || (is == Started && was == Starting) {
        machine.undrain();
    }
    if was != Stopping && is == Stopping {
        machine.note_stop();
        machine.close_resting();
    }
}

fn covers(port: &Port, want: u16) -> bool {
    let range = port.start_port.zip(port.end_port);
    port.port == Some(want) || range.is_some_and(|(from, to)| (from..=to).contains(&want))
}

/// The machine as a target behind an outside port, if it has an HTTP service there.
fn target(row: &Row, want: u16, region: &str) -> Option<Target> {
    let route = &row.route;
    let is_http = |port: &&Port| {
        let handlers = port.handlers.as_deref().unwrap_or_default();
        covers(port, want) && handlers.iter().any(|h| h == "http")
    };
    let (service, port) = route.services.iter().find_map(|service| {
        let is_tcp = service.protocol.as_deref().is_none_or(|p| p == "tcp");
        let port = service.ports.as_ref()?.iter().find(is_http).filter(|_| is_tcp)?;
        Some((service, port))
    })?;
    let internal = service.internal_port?;
    let options = port.extra.get("http_options");
    let (soft, hard) = limits(service);
    let kind = service.concurrency.as_ref().map(|c| c.kind.as_deref());
    Some(Target {
        machine: row.machine.clone(),
        load: row.loads.iter().find(|(p, _)| *p == internal)?.1.clone(),
        addr: SocketAddrV4::new(route.address, internal),
        hard,
        fresh: kind.is_some_and(|kind| kind != Some("requests")),
        pristine: options.and_then(|o| o["response"]["pristine"].as_bool()).unwrap_or(false),
        idle_timeout: options.and_then(|o| o["idle_timeout"].as_u64()).map(Duration::from_secs),
        last_failure: route.last_failure.clone(),
        version: row.version,
        timing: service.server_timing.unwrap_or(false).then(|| host_stages(&row.stages_ms)),
        came_up: row.came_up,
        state: route.state,
        listening: route.listening.contains(&internal),
        cordoned: route.cordoned,
        soft,
        autostart: service.autostart.unwrap_or(true),
        suspended: route.suspended && route.state == RouteState::Asleep,
        remote: route.region != region,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    pub(crate) fn app_shared(name: &str) -> AppShared {
        new_app(name, &Metrics::new(&mut Registry::default(), &Arc::new(Cell::new())))
    }

    pub(crate) fn keeper(ports: &[u16]) -> Keeper {
        let cell = Arc::new(Cell::new());
        let metrics = Metrics::new(&mut Registry::default(), &cell);
        Keeper::new(cell, metrics, "local".into(), ports.into())
    }

    fn route(machine: &str, state: RouteState, services: serde_json::Value) -> Route {
        Route {
            suspended: false,
            stages_ms: Vec::new(),
            app: "web".into(),
            machine: machine.into(),
            region: "local".into(),
            instance: "01".into(),
            state,
            address: [127, 0, 0, 1].into(),
            listening: vec![8080],
            cordoned: false,
            services: serde_json::from_value(services).unwrap(),
            primary_region: None,
            last_failure: None,
        }
    }

    #[tokio::test]
    async fn an_outside_port_leads_to_its_http_service() {
        let mut k = keeper(&[8080, 80, 443]);
        k.apply(RouteChange::Upsert(Box::new(route(
            "m1",
            RouteState::Started,
            serde_json::json!([
                {"protocol": "tcp", "internal_port": 5432, "ports": [{"port": 80}]},
                {"protocol": "tcp", "internal_port": 3000, "ports": [
                    {"port": 443, "handlers": ["tls", "http"],
                     "http_options": {"idle_timeout": 7, "response": {"pristine": true}}}]},
                {"protocol": "udp", "internal_port": 53, "ports": [{"port": 443, "handlers": ["http"]}]},
                {"internal_port": 9000, "ports": [{"start_port": 8000, "end_port": 8100, "handlers": ["http"]}]}
            ]),
        ))));
        let app = k.apps["web"].clone();
        let port = |ports: &[u16]| app.targets(ports).map(|t| t[0].addr.port());
        assert_eq!(port(&[8080, 80, 443]), Some(9000));
        assert_eq!(port(&[80, 443]), Some(3000), "raw TCP on port 80 is not ours");
        assert_eq!(port(&[80]), None);
        let target = &app.targets(&[443]).unwrap()[0];
        assert!(target.pristine && target.idle_timeout == Some(Duration::from_secs(7)));
        assert!(!target.fresh && target.autostart, "absent means pooled and autostart (X008)");
        assert_eq!((target.soft, target.hard), (20, u32::MAX));
    }

    #[tokio::test]
    async fn a_machine_keeps_its_load_over_changes_and_loses_its_connections_with_its_boot() {
        let services = serde_json::json!([{"internal_port": 8080, "ports": [{"port": 80, "handlers": ["http"]}]}]);
        let mut k = keeper(&[80]);
        let mut step = |state| {
            k.apply(RouteChange::Upsert(Box::new(route("m1", state, services.clone()))));
            k.apps["web"].targets(&[80]).unwrap()[0].clone()
        };
        let first = step(RouteState::Started);
        first.load.fetch_add(1, SeqCst);
        assert!(first.machine.drain());
        let again = step(RouteState::Started);
        assert_eq!(again.load.load(SeqCst), 1);
        assert!(again.machine.is_draining(), "still about to stop");
        assert_eq!(again.candidate().ready, Ready::Asleep);
        assert_eq!(step(RouteState::Stopping).machine.epoch(), 0);
        assert_eq!(step(RouteState::Asleep).machine.epoch(), 1);
        assert!(!step(RouteState::Starting).machine.is_draining());
        assert_eq!(step(RouteState::Started).candidate().ready, Ready::Up);
        assert_eq!(step(RouteState::Unavailable).candidate().ready, Ready::Away);
    }

    #[tokio::test]
    async fn a_stop_that_is_over_before_it_is_looked_at_drains_nothing() {
        let mut k = keeper(&[80]);
        let mut step = |state| {
            k.apply(RouteChange::Upsert(Box::new(route("m1", state, serde_json::json!([])))));
            k.take_stopping()
        };
        assert!(step(RouteState::Started).is_empty());
        let [(machine, epoch)] = step(RouteState::Stopping).try_into().unwrap();
        assert!(step(RouteState::Stopping).is_empty(), "said once");
        for state in [RouteState::Asleep, RouteState::Starting, RouteState::Started] {
            assert!(step(state).is_empty());
        }
        assert!(!machine.emptied(epoch).await);
        assert!(!machine.is_draining(), "it takes requests");
    }

    #[tokio::test]
    async fn what_goes_on_keeps_what_it_has_in_flight_and_what_runs_anew_does_not() {
        // The stages of the start it runs in after it was on its way down.
        for (stages, epoch) in [(&[("image", 1.0)][..], 0), (&[("image", 2.0)], 1), (&[], 1)] {
            let mut k = keeper(&[80]);
            let mut step = |state, stages: &[(&str, f64)]| {
                let mut route = route("m1", state, serde_json::json!([]));
                route.stages_ms = stages.iter().map(|(n, ms)| ((*n).into(), *ms)).collect();
                k.apply(RouteChange::Upsert(Box::new(route)));
                k.apps["web"].rows[0].clone()
            };
            let up = step(RouteState::Started, &[("image", 1.0)]);
            let machine = up.machine.clone();
            let running = machine.era();
            // What a host says of stages meanwhile does not matter.
            step(RouteState::Stopping, &[]);
            let stopping = machine.era();
            assert_ne!(stopping, running, "what rests is closed");
            assert_eq!(stopping.epoch, 0, "what is in flight lives");
            let row = step(RouteState::Started, stages);
            assert_eq!(machine.epoch(), epoch, "{stages:?}");
            assert_ne!(machine.era(), stopping, "nobody waits for the end of its stop any more");
            assert_eq!(row.came_up == up.came_up, epoch == 0);
        }
    }

    #[tokio::test]
    async fn what_sleeps_suspended_says_so() {
        let services = serde_json::json!([{"internal_port": 8080, "ports": [{"port": 80, "handlers": ["http"]}]}]);
        let mut k = keeper(&[80]);
        for (state, suspended) in [(RouteState::Asleep, true), (RouteState::Stopping, false)] {
            let mut route = route("m1", state, services.clone());
            route.suspended = true;
            k.apply(RouteChange::Upsert(Box::new(route)));
            let target = &k.apps["web"].targets(&[80]).unwrap()[0];
            assert_eq!(target.candidate().suspended, suspended, "{state:?}");
        }
    }

    #[tokio::test]
    async fn a_snapshot_is_the_whole_truth() {
        let mut k = keeper(&[80]);
        let view = View::new(k.cell.clone());
        let snapshot = |ids: &[&str]| RouteSnapshot {
            generation: 1,
            routes: ids
                .iter()
                .map(|id| route(id, RouteState::Asleep, serde_json::json!([])))
                .collect(),
        };
        k.replace(snapshot(&["m1", "m2"]));
        assert_eq!(view.table().apps["web"].rows.len(), 2);
        k.replace(snapshot(&["m2"]));
        assert_eq!(view.table().apps["web"].rows[0].route.machine, "m2");
        k.replace(snapshot(&[]));
        assert!(view.table().apps.is_empty());
    }
}
