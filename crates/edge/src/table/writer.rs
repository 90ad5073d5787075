//! Applies the hosts' routes to the table; one task owns it.
//!
//! A machine's route is accepted from the host that owns it: of two hosts that
//! both claim a machine the one with the larger ownership epoch is right, and
//! neither a snapshot nor a removal of a host touches the machines of another. Of
//! one host only the newest stream counts, by the epoch of its worker and the
//! generation of its table.

use crate::admission::app::AppShared;
use crate::admission::idle_queue::IdleQueue;
use crate::admission::machine::{ConnectionEpoch, Machine};
use crate::metrics::Metrics;
use crate::table::app::{App, Row};
use crate::table::host::FollowedHost;
use crate::table::shared::{AppEntry, SharedTable};
use host_api::{Route, RouteChange, RoutePosition, RouteSnapshot, RouteState};
use model::id::{AppId, Epoch, HostId, MachineId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use tokio::time::Instant;

/// Applies changes; one task owns it.
#[derive(Debug)]
pub(crate) struct TableWriter {
    table: Arc<SharedTable>,
    metrics: Metrics,
    idle_queue: Arc<IdleQueue>,
    region: String,
    /// Outside ports that some listener serves.
    ports: Vec<u16>,
    apps: HashMap<AppId, WrittenApp>,
    machines: HashMap<MachineId, Owner>,
    hosts: HashMap<HostId, HostRoutes>,
    /// Apps that have changed since the last [`TableWriter::publish`].
    changed: HashSet<AppId>,
    /// Machines that have begun to stop since this was last asked for, and their
    /// epochs then: a stop may be over before it is looked at.
    stopping: Vec<(Arc<Machine>, ConnectionEpoch)>,
}

/// One app, with what is not published yet.
#[derive(Debug)]
struct WrittenApp {
    shared: Arc<AppShared>,
    rows: Vec<Arc<Row>>,
    entry: Option<Arc<AppEntry>>,
}

/// To which host and app a machine belongs.
#[derive(Clone, Copy, Debug)]
struct Owner {
    host: HostId,
    epoch: Epoch,
    app: AppId,
}

/// The newest position of a host's stream, and its machines here.
#[derive(Debug, Default)]
struct HostRoutes {
    position: RoutePosition,
    machines: HashSet<MachineId>,
}

impl TableWriter {
    pub(crate) fn new(
        table: Arc<SharedTable>,
        metrics: Metrics,
        idle_queue: Arc<IdleQueue>,
        region: String,
        ports: Vec<u16>,
    ) -> Self {
        Self {
            table,
            metrics,
            idle_queue,
            region,
            ports,
            apps: HashMap::new(),
            machines: HashMap::new(),
            hosts: HashMap::new(),
            changed: HashSet::new(),
            stopping: Vec::new(),
        }
    }

    /// Machines that have begun to stop, and the epochs in which they have; to be
    /// asked after [`TableWriter::publish`].
    pub(crate) fn take_stopping(&mut self) -> Vec<(Arc<Machine>, ConnectionEpoch)> {
        std::mem::take(&mut self.stopping)
    }

    /// Takes a snapshot as all that its host has. False if it is stale: a newer
    /// one of the host has been seen.
    pub(crate) fn replace(&mut self, host: &Arc<FollowedHost>, snapshot: RouteSnapshot) -> bool {
        let known = self.hosts.entry(host.id).or_default();
        let position = RoutePosition { host: host.id, ..snapshot.position };
        if (position.epoch, position.generation) < (known.position.epoch, known.position.generation)
        {
            return false;
        }
        known.position = position;
        let mut gone = known.machines.clone();
        for route in snapshot.routes {
            gone.remove(&route.machine);
            self.upsert(host, route);
        }
        for machine in gone {
            self.remove(host.id, machine);
        }
        true
    }

    /// Takes one change of the stream that began at `position`. False if that
    /// stream is stale.
    pub(crate) fn apply(
        &mut self,
        host: &Arc<FollowedHost>,
        position: RoutePosition,
        change: RouteChange,
    ) -> bool {
        let known = &mut self.hosts.entry(host.id).or_default().position;
        if (position.epoch, position.generation) < (known.epoch, known.generation) {
            return false;
        }
        *known = position;
        match change {
            RouteChange::Upsert(route) => self.upsert(host, *route),
            RouteChange::Remove { machine } => self.remove(host.id, machine),
        }
        true
    }

    /// The host is no longer part of the platform.
    pub(crate) fn forget_host(&mut self, host: HostId) {
        let Some(known) = self.hosts.remove(&host) else { return };
        for machine in known.machines {
            self.remove(host, machine);
        }
    }

    /// The host is called in another way from now on: its next snapshot counts, whatever its
    /// position. Its machines stay until then.
    pub(crate) fn restart_host(&mut self, host: HostId) {
        if let Some(known) = self.hosts.get_mut(&host) {
            known.position = RoutePosition::default();
        }
    }

    /// Has requests that wait for machines of `host` look again: whether it can be
    /// reached has changed.
    pub(crate) fn notify_waiting(&self, host: HostId) {
        let machines = self.hosts.get(&host).into_iter().flat_map(|known| &known.machines);
        let apps = machines.filter_map(|id| Some(self.machines.get(id)?.app));
        for app in apps.collect::<HashSet<_>>().iter().filter_map(|id| self.apps.get(id)) {
            app.shared.changed.notify_waiters();
        }
    }

    /// Shows the cores, and requests that wait, what has changed. Returns how many
    /// apps and machines were written.
    pub(crate) fn publish(&mut self) -> (usize, usize) {
        let (mut apps, mut machines) = (0, 0);
        for id in std::mem::take(&mut self.changed) {
            let Some(app) = self.apps.get_mut(&id) else { continue };
            let (shared, rows) = (app.shared.clone(), app.rows.clone());
            apps += 1;
            machines += rows.len();
            if rows.is_empty() {
                if let Some(entry) = &app.entry {
                    self.table.remove(&shared.name, entry);
                }
                // A newer app of this name continues the same series.
                if self.table.get(&shared.name).is_none() {
                    shared.metrics.remove();
                }
                self.apps.remove(&id);
                shared.changed.notify_waiters();
                continue;
            }
            let now = App::new(shared.clone(), rows, &self.ports, &self.region);
            let has_autostop = now.has_autostop();
            match &app.entry {
                Some(entry) => entry.store(now),
                None => {
                    let entry = Arc::new(AppEntry::new(now));
                    app.entry = Some(entry.clone());
                    show(&self.table, &shared, entry);
                }
            }
            if has_autostop {
                shared.request_idle_check();
            }
            if shared.waiting.load(SeqCst) > 0 {
                shared.changed.notify_waiters();
            }
        }
        (apps, machines)
    }

    fn upsert(&mut self, host: &Arc<FollowedHost>, route: Route) {
        let id = route.machine;
        let owner = Owner { host: host.id, epoch: route.epoch, app: route.app };
        if let Some(before) = self.machines.get(&id).copied() {
            if route.epoch < before.epoch || (route.epoch == before.epoch && before.host != host.id)
            {
                return;
            }
            if before.host != owner.host || before.app != owner.app {
                // Another owner has another VM: nothing of the old one is kept.
                self.take_out(id);
            }
        }
        self.machines.insert(id, owner);
        self.hosts.entry(host.id).or_default().machines.insert(id);
        let app = self.apps.entry(route.app).or_insert_with(|| {
            let name: Arc<str> = route.app_name.as_str().into();
            let metrics = self.metrics.app(&name);
            let queue = self.idle_queue.clone();
            let shared = AppShared::new(route.app, name, metrics, queue);
            WrittenApp { shared: Arc::new(shared), rows: Vec::new(), entry: None }
        });
        self.changed.insert(route.app);
        let at = app.rows.iter().position(|row| row.route.machine == id);
        let old = at.map(|at| &*app.rows[at]);
        let stops = route.state == RouteState::Stopping
            && old.is_none_or(|old| old.route.state != RouteState::Stopping);
        let is_new_config = old.is_none_or(|old| old.route.instance != route.instance);
        let row = Arc::new(build_row(route, &app.shared, host, old));
        if stops {
            self.stopping.push((row.machine.clone(), row.machine.connection_epoch()));
        }
        if is_new_config {
            crate::admission::autostop::warn_if_never_restarted(&row.machine, &row.route);
        }
        match at {
            Some(at) => app.rows[at] = row,
            None => app.rows.push(row),
        }
    }

    fn remove(&mut self, host: HostId, id: MachineId) {
        if self.machines.get(&id).is_some_and(|owner| owner.host == host) {
            self.take_out(id);
        }
    }

    fn take_out(&mut self, id: MachineId) {
        let Some(owner) = self.machines.remove(&id) else { return };
        if let Some(host) = self.hosts.get_mut(&owner.host) {
            host.machines.remove(&id);
        }
        let Some(app) = self.apps.get_mut(&owner.app) else { return };
        self.changed.insert(owner.app);
        if let Some(at) = app.rows.iter().position(|row| row.route.machine == id) {
            app.rows.remove(at).machine.invalidate_connections();
        }
    }
}

/// Makes a new app what its name leads to, unless a newer one has the name: the
/// machines of a deleted app may be there for a while after it.
fn show(table: &SharedTable, shared: &AppShared, entry: Arc<AppEntry>) {
    let holder = table.get(&shared.name).map(|found| found.load().shared.id);
    if holder.is_none_or(|holder| holder <= shared.id) {
        table.insert(shared.name.clone(), entry);
    }
}

fn build_row(
    route: Route,
    app: &Arc<AppShared>,
    host: &Arc<FollowedHost>,
    old: Option<&Row>,
) -> Row {
    // A machine that comes back to its host has run elsewhere meanwhile.
    let is_same = |old: &Machine| old.ownership == route.epoch && Arc::ptr_eq(&old.host, host);
    let machine = old.filter(|old| is_same(&old.machine));
    let machine = match machine {
        Some(old) => old.machine.clone(),
        None => {
            if let Some(old) = old {
                old.machine.invalidate_connections();
            }
            Arc::new(Machine::new(route.machine, route.epoch, host.clone(), app.clone()))
        }
    };
    let stages_ms = match (route.state, old) {
        (RouteState::Started, _) | (_, None) => route.stages_ms.clone(),
        (_, Some(old)) => old.stages_ms.clone(),
    };
    let is_up = route.state == RouteState::Started;
    let was = old.map(|old| old.route.state);
    let same_boot = old.is_some_and(|old| old.route.boot == route.boot);
    apply_state_change(&machine, was, route.state, same_boot);
    let begins_to_listen =
        |old: &Row| old.route.listening.is_empty() && !route.listening.is_empty();
    if is_up && old.is_some_and(begins_to_listen) {
        // Until then it could not have had load.
        machine.idle_from_now();
    }
    let came_up = match old {
        Some(old) if !is_up || (same_boot && was != Some(RouteState::Starting)) => old.came_up,
        _ => Instant::now(),
    };
    let mut loads: Vec<(u16, Arc<AtomicU32>)> = Vec::new();
    for port in route.services.iter().filter_map(|s| s.internal_port) {
        if loads.iter().all(|(known, _)| *known != port) {
            let kept = old.and_then(|old| old.loads.iter().find(|(p, _)| *p == port));
            loads.push((port, kept.map(|(_, load)| load.clone()).unwrap_or_default()));
        }
    }
    let stop_when_idle = route.services.iter().any(|s| s.autostop_after_seconds == Some(0));
    machine.stop_when_idle.store(stop_when_idle, SeqCst);
    let version = old.map_or(0, |old| old.version + 1);
    machine.route_version.store(version, SeqCst);
    Row { route, machine, version, loads, came_up, stages_ms }
}

/// Draws the consequences of a new state for what outlives the snapshot. A
/// machine that was going down and then runs in the same boot has resumed, as one
/// does that is wanted while it is being suspended: its requests in flight live.
fn apply_state_change(machine: &Machine, was: Option<RouteState>, is: RouteState, same_boot: bool) {
    use RouteState::{Started, Starting, Stopping};
    let was = was.unwrap_or(RouteState::Unavailable);
    // While it stops it may still answer what it has; after that nothing comes.
    if matches!(was, Started | Stopping) && !matches!(is, Started | Stopping) {
        machine.invalidate_connections();
    }
    if is == Started && matches!(was, Started | Stopping) {
        if !same_boot {
            // Its way down and up was missed, or it runs in another boot.
            machine.invalidate_connections();
        } else if was == Stopping {
            // Before it takes requests again: the tasks that wait for the end of its
            // stop must see that it is over, or would refuse requests.
            machine.retire_connections();
        }
    }
    let comes_up = was != is && matches!(is, Starting | Started);
    if comes_up {
        machine.end_drain();
    }
    if was != Stopping && is == Stopping {
        machine.record_stop();
        machine.retire_connections();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::balance::Availability;
    use crate::table::testing::{Lab, host, id, route};
    use model::id::BootId;

    #[tokio::test]
    async fn a_machine_keeps_its_load_over_changes_and_loses_its_connections_with_its_boot() {
        let mut lab = Lab::new(&[80]);
        let mut step = |state| {
            lab.upsert("m1", |r| r.state = state);
            lab.target("web")
        };
        let first = step(RouteState::Started);
        first.load.fetch_add(1, SeqCst);
        assert!(first.machine.try_drain());
        let again = step(RouteState::Started);
        assert_eq!(again.load.load(SeqCst), 1);
        assert!(again.machine.is_draining(), "still about to stop");
        assert_eq!(again.candidate().availability, Availability::Asleep);
        assert_eq!(step(RouteState::Stopping).machine.boot_epoch(), 0);
        assert_eq!(step(RouteState::Asleep).machine.boot_epoch(), 1);
        assert!(!step(RouteState::Starting).machine.is_draining());
        assert_eq!(step(RouteState::Started).candidate().availability, Availability::Ready);
        let away = step(RouteState::Unavailable).candidate().availability;
        assert_eq!(away, Availability::Unavailable);
    }

    #[tokio::test]
    async fn a_stop_that_is_over_before_it_is_looked_at_drains_nothing() {
        let mut lab = Lab::new(&[80]);
        let mut step = |state| {
            lab.upsert("m1", |r| r.state = state);
            lab.writer.take_stopping()
        };
        assert!(step(RouteState::Started).is_empty());
        let [(machine, epoch)] = step(RouteState::Stopping).try_into().unwrap();
        assert!(step(RouteState::Stopping).is_empty(), "reported once");
        for state in [RouteState::Asleep, RouteState::Starting, RouteState::Started] {
            assert!(step(state).is_empty());
        }
        assert!(!machine.drained(epoch).await);
        assert!(!machine.is_draining(), "it takes requests");
    }

    #[tokio::test]
    async fn a_boot_that_resumes_keeps_its_requests_in_flight_and_a_new_boot_does_not() {
        for (boot, epoch) in [(1, 0), (2, 1)] {
            let mut lab = Lab::new(&[80]);
            let mut step = |state, boot| {
                lab.upsert("m1", |r| (r.state, r.boot) = (state, Some(BootId::new(boot, 0))));
                lab.app("web").unwrap().rows[0].clone()
            };
            let up = step(RouteState::Started, 1);
            let machine = up.machine.clone();
            let running = machine.connection_epoch();
            step(RouteState::Stopping, 1);
            let stopping = machine.connection_epoch();
            assert_ne!(stopping, running, "idle connections are closed");
            assert_eq!(stopping.boot, 0, "requests in flight live");
            let row = step(RouteState::Started, boot);
            assert_eq!(machine.boot_epoch(), epoch, "boot {boot}");
            assert_ne!(machine.connection_epoch(), stopping, "the stop is over");
            assert_eq!(row.came_up == up.came_up, epoch == 0);
        }
    }

    #[tokio::test]
    async fn a_restart_that_the_table_missed_cuts_the_connections() {
        let mut lab = Lab::new(&[80]);
        lab.upsert("m1", |_| {});
        let machine = lab.target("web").machine;
        lab.upsert("m1", |r| r.cordoned = true);
        assert_eq!(machine.boot_epoch(), 0);
        lab.upsert("m1", |r| r.boot = Some(BootId::new(2, 0)));
        assert_eq!(machine.boot_epoch(), 1);
    }

    fn snapshot(epoch: u64, generation: u64, machines: &[&str]) -> RouteSnapshot {
        RouteSnapshot {
            position: RoutePosition { host: HostId(0), epoch, generation },
            routes: machines.iter().map(|id| route(id)).collect(),
        }
    }

    #[tokio::test]
    async fn a_snapshot_is_all_that_its_host_has_and_nothing_of_another() {
        let mut lab = Lab::new(&[80]);
        let (a, b) = (host(1), host(2));
        assert!(lab.writer.replace(&a, snapshot(1, 1, &["m1", "m2"])));
        assert!(lab.writer.replace(&b, snapshot(1, 1, &["m3"])));
        assert_eq!(lab.machines("web"), ["m1", "m2", "m3"]);
        assert!(lab.writer.replace(&a, snapshot(1, 2, &["m2"])));
        assert_eq!(lab.machines("web"), ["m2", "m3"]);
        assert!(lab.writer.replace(&a, snapshot(2, 0, &[])), "its worker has been restarted");
        assert_eq!(lab.machines("web"), ["m3"]);
        lab.writer.forget_host(HostId(1));
        assert_eq!(lab.machines("web"), ["m3"]);
        lab.writer.forget_host(HostId(2));
        assert!(lab.machines("web").is_empty() && lab.app("web").is_none());
    }

    #[tokio::test]
    async fn a_stale_stream_changes_nothing() {
        let mut lab = Lab::new(&[80]);
        let a = host(1);
        assert!(lab.writer.replace(&a, snapshot(2, 5, &["m1"])));
        assert!(!lab.writer.replace(&a, snapshot(1, 99, &[])), "of an earlier start");
        assert!(!lab.writer.replace(&a, snapshot(2, 4, &[])), "of an earlier generation");
        let old = RoutePosition { host: a.id, epoch: 1, generation: 100 };
        assert!(!lab.writer.apply(&a, old, RouteChange::Remove { machine: id("m1") }));
        assert_eq!(lab.machines("web"), ["m1"]);
    }

    #[tokio::test]
    async fn the_larger_ownership_epoch_wins_and_the_former_owner_takes_nothing_away() {
        let mut lab = Lab::new(&[80]);
        let (a, b) = (host(1), host(2));
        let at =
            |host: &FollowedHost, generation| RoutePosition { host: host.id, epoch: 1, generation };
        let owned = |epoch| {
            let mut route = route("m1");
            route.epoch = Epoch(epoch);
            RouteChange::Upsert(Box::new(route))
        };
        lab.writer.apply(&a, at(&a, 1), owned(1));
        lab.writer.publish();
        let former = lab.target("web").machine;
        lab.writer.apply(&b, at(&b, 1), owned(2));
        lab.writer.publish();
        let machine = lab.target("web").machine;
        assert_eq!((machine.host.id, former.boot_epoch()), (b.id, 1), "its connections are cut");
        // The former owner still claims it, then gives it up.
        lab.writer.apply(&a, at(&a, 2), owned(1));
        lab.writer.apply(&a, at(&a, 3), RouteChange::Remove { machine: id("m1") });
        lab.writer.replace(&a, snapshot(1, 4, &[]));
        lab.writer.forget_host(a.id);
        lab.writer.publish();
        assert!(Arc::ptr_eq(&lab.target("web").machine, &machine));
        // Two hosts at one epoch: the one that had it keeps it.
        lab.writer.apply(&a, at(&a, 5), owned(2));
        lab.writer.publish();
        assert_eq!(lab.target("web").machine.host.id, b.id);
    }

    #[tokio::test]
    async fn a_name_leads_to_the_newest_app_that_has_it() {
        let mut lab = Lab::new(&[80]);
        lab.upsert("old", |r| r.app = AppId(1));
        lab.upsert("new", |r| r.app = AppId(2));
        assert_eq!(lab.app("web").unwrap().shared.id, AppId(2));
        lab.upsert("old", |r| (r.app, r.cordoned) = (AppId(1), true));
        assert_eq!(lab.app("web").unwrap().shared.id, AppId(2));
        lab.remove("old");
        assert_eq!(lab.machines("web"), ["new"]);
        // In the other order.
        lab.upsert("older", |r| r.app = AppId(1));
        assert_eq!(lab.machines("web"), ["new"]);
        lab.remove("new");
        assert!(lab.app("web").is_none());
    }

    #[tokio::test]
    async fn a_change_costs_the_same_with_ten_and_with_ten_thousand_apps() {
        let cost = |apps: u32| {
            let mut lab = Lab::new(&[80]);
            for n in 0..apps {
                let named = |r: &mut Route| {
                    (r.app, r.app_name) = (AppId(n), format!("app{n}").parse().unwrap());
                };
                lab.writer.apply_test(&lab.host, &format!("m{n}"), named);
            }
            lab.writer.publish();
            lab.writer.idle_queue.take();
            let other = lab.app("app3").unwrap();
            let holders = Arc::strong_count(&other);
            let before = crate::table::testing::allocations();
            let named = |r: &mut Route| {
                (r.app, r.app_name) = (AppId(5), "app5".parse().unwrap());
                r.cordoned = true;
            };
            lab.writer.apply_test(&lab.host, "m5", named);
            let written = lab.writer.publish();
            let allocated = crate::table::testing::allocations() - before;
            assert_eq!(written, (1, 1));
            assert_eq!(Arc::strong_count(&other), holders, "the others are not even copied");
            allocated
        };
        let (few, many) = (cost(10), cost(10_000));
        assert_eq!(few, many, "allocations of one change");
    }

    impl TableWriter {
        fn apply_test(
            &mut self,
            host: &Arc<FollowedHost>,
            machine: &str,
            tune: impl FnOnce(&mut Route),
        ) {
            let mut route = route(machine);
            tune(&mut route);
            let position = self.hosts.get(&host.id).map(|known| known.position).unwrap_or_default();
            let position =
                RoutePosition { host: host.id, generation: position.generation + 1, ..position };
            assert!(self.apply(host, position, RouteChange::Upsert(Box::new(route))));
        }
    }
}
