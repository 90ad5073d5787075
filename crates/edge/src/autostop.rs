//! Stops or suspends idle machines: the shell around [`model::autostop`].
//!
//! A group is the machines of one app and region with the same outside ports. A
//! machine counts as idle only while it has no request, no streaming answer and
//! no upgraded connection, and while no request of its app is held. A machine
//! of which some service forbids autostop is never stopped (P032). Whether one
//! that is to be suspended can be is the host's to know: it stops it if not (L016).

use crate::core::Shared;
use crate::machine::Machine;
use crate::table::{App, Row, Table, limits};
use model::autostop::{Running, keep, next_due, stops};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::Instant;
use wire::machines::{Autostop, Service};
use wire::routes::{Route, RouteState};

/// Machines that are alike, and what autostop makes of them.
struct Group {
    rows: Vec<Arc<Row>>,
    running: Vec<Running>,
    keep: usize,
}

/// Watches until the edge stops.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut changes = shared.cell.changes();
    let every = shared.config.autostop_interval;
    let mut next_pass = Instant::now() + every;
    loop {
        let is_pass = Instant::now() >= next_pass;
        if is_pass {
            next_pass = Instant::now() + every;
        }
        let mut wait = next_pass - Instant::now();
        for group in groups(&shared.cell.newest(), &shared) {
            for index in stops(&group.running, group.keep, is_pass) {
                send_down(&shared, &group.rows[index], group.running[index].idle);
            }
            wait = wait.min(next_due(&group.running, group.keep).unwrap_or(wait));
        }
        // What is due now and was not stopped has load or waiting requests; it
        // is looked at again when that changes, or a little later.
        let wait = wait.max(Duration::from_millis(20));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.nudge.notified() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

fn groups(table: &Table, shared: &Shared) -> Vec<Group> {
    let held = |app: &&Arc<App>| app.shared.waiting.load(SeqCst) == 0;
    table.apps.values().filter(held).flat_map(|app| groups_of(app, shared)).collect()
}

fn groups_of(app: &App, shared: &Shared) -> Vec<Group> {
    type Alike<'a> = (&'a str, Vec<Option<u16>>);
    let mut groups: HashMap<Alike<'_>, Vec<&Arc<Row>>> = HashMap::new();
    for row in &app.rows {
        let route = &row.route;
        if route.state == RouteState::Started && !route.cordoned && !row.machine.is_draining() {
            groups.entry((&route.region, outside_ports(route))).or_default().push(row);
        }
    }
    let group = |rows: Vec<&Arc<Row>>| {
        let keep = rows.iter().map(|row| keep_of(row, &shared.config.region)).max().unwrap_or(0);
        let running = rows.iter().map(|row| running(row)).collect();
        Group { rows: rows.into_iter().cloned().collect(), running, keep }
    };
    groups.into_values().map(group).collect()
}

/// What makes two machines interchangeable for the edge (P004).
fn outside_ports(route: &Route) -> Vec<Option<u16>> {
    let ports = route.services.iter().flat_map(|service| service.ports.iter().flatten());
    let mut ports: Vec<_> = ports.map(|port| port.port.or(port.start_port)).collect();
    ports.sort_unstable();
    ports
}

fn keep_of(row: &Row, region: &str) -> usize {
    let route = &row.route;
    let primary = route.primary_region.as_deref().unwrap_or(region);
    let min = route.services.iter().filter_map(|s| s.min_machines_running).max();
    keep(min.unwrap_or(0), route.region == primary)
}

fn running(row: &Row) -> Running {
    let services = &row.route.services;
    let load = row.machine.in_flight();
    let allowed = |s: &Service| s.autostop.unwrap_or_default() != Autostop::Off;
    let over = |s: &Service| s.internal_port.is_some_and(|port| row.load(port) >= limits(s).0);
    let after = services.iter().filter_map(|s| s.autostop_after_seconds).max();
    Running {
        autostop: !services.is_empty() && services.iter().all(allowed),
        load,
        over_soft: services.iter().any(over),
        idle: if load == 0 { row.machine.idle_since().elapsed() } else { Duration::ZERO },
        after: after.map(|s| Duration::from_secs(s.into())),
    }
}

/// How an idle machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stop,
    Suspend,
}

impl Way {
    /// Stops only if every service says so. To suspend is the more cautious of
    /// the two (P032): it loses nothing that the service which asked for it, or
    /// the other one, has in memory, and the next request waits less.
    fn of(services: &[Service]) -> Self {
        let stops = |s: &Service| s.autostop == Some(Autostop::Stop);
        if services.iter().all(stops) { Self::Stop } else { Self::Suspend }
    }
}

/// Sends a machine down unless a request has come meanwhile.
fn send_down(shared: &Arc<Shared>, row: &Arc<Row>, idle: Duration) {
    let Ok(_free) = row.machine.life.try_lock() else { return };
    let is_wanted = || row.machine.app.waiting.load(SeqCst) > 0;
    if is_wanted() || !row.machine.drain() {
        return;
    }
    // A request that could not be sent yet is counted as held before it gives its
    // place back: it may have done both since the first look.
    if is_wanted() {
        row.machine.undrain();
        row.machine.app.changed.notify_waiters();
        return;
    }
    // A guest that is suspended should not wake with connections that nobody
    // holds the other end of: they are closed before the host hears of it.
    row.machine.close_resting();
    shared.cell.nudge();
    let way = Way::of(&row.route.services);
    let reason = format!("idle for {:.0}s", idle.as_secs_f64());
    let (shared_too, machine) = (shared.clone(), row.machine.clone());
    shared.spawn(async move { tell(&shared_too, &machine, way, &reason).await });
}

async fn tell(shared: &Shared, machine: &Arc<Machine>, way: Way, reason: &str) {
    // A wake waits for this, so the host hears "stop" before "start".
    let _life = machine.life.lock().await;
    if !machine.is_draining() {
        return;
    }
    let (workers, metrics, id) = (&shared.workers, &shared.metrics, &machine.id);
    let log = |what| workers.log(&machine.app.name, Some(id), format!("{what}: {reason}"));
    let told = match way {
        Way::Stop => {
            metrics.idle_stops.inc();
            log("Stopping");
            workers.stop_idle(id, reason).await
        }
        Way::Suspend => {
            metrics.idle_suspends.inc();
            log("Suspending");
            workers.suspend_idle(id, reason).await
        }
    };
    if let Err(why) = told {
        tracing::warn!(machine = id, ?way, ?why, "refused for an idle machine");
        machine.undrain();
    }
    machine.app.changed.notify_waiters();
}

/// Says so where an app will never come back (D1).
pub(crate) fn warn_of_no_return(shared: &Shared, route: &Route) {
    let stops = |s: &&Service| s.autostop.unwrap_or_default() != Autostop::Off;
    let lost = route.services.iter().filter(stops).any(|s| s.autostart == Some(false));
    if lost {
        let text = "autostop is on and autostart is off: once it sleeps for being idle, \
                    this machine is not started by requests";
        tracing::warn!(app = route.app, machine = route.machine, "{text}");
        shared.workers.log(&route.app, Some(&route.machine), format!("Warning: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_services_want_stopped_is_stopped() {
        use Autostop::{Stop, Suspend};
        let service = |autostop| Service { autostop: Some(autostop), ..Service::default() };
        for (services, way) in [
            (&[Stop][..], Way::Stop),
            (&[Suspend], Way::Suspend),
            (&[Stop, Stop], Way::Stop),
            (&[Stop, Suspend], Way::Suspend),
            (&[Suspend, Suspend], Way::Suspend),
        ] {
            let all: Vec<_> = services.iter().copied().map(service).collect();
            assert_eq!(Way::of(&all), way, "{services:?}");
        }
    }
}
