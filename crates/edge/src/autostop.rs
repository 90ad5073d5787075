//! Stops idle machines: the shell around [`model::autostop`].
//!
//! A group is the machines of one app and region with the same outside ports. A
//! machine counts as idle only while it has no request, no streaming answer and
//! no upgraded connection, and while no request of its app is held. A machine
//! of which some service forbids autostop is never stopped (P032). `suspend`
//! stops, for now, and the reason in the machine's events says so.

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
                stop(&shared, &group.rows[index], group.running[index].idle);
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

/// Stops a machine unless a request has come meanwhile.
fn stop(shared: &Arc<Shared>, row: &Arc<Row>, idle: Duration) {
    let Ok(_free) = row.machine.life.try_lock() else { return };
    if !row.machine.drain() {
        return;
    }
    let suspend = row.route.services.iter().any(|s| s.autostop == Some(Autostop::Suspend));
    let note = if suspend { "; autostop = suspend stops in this version" } else { "" };
    let reason = format!("idle for {:.0}s{note}", idle.as_secs_f64());
    shared.metrics.idle_stops.inc();
    let (shared_too, machine) = (shared.clone(), row.machine.clone());
    shared.spawn(async move { tell(&shared_too, &machine, &reason).await });
}

async fn tell(shared: &Shared, machine: &Arc<Machine>, reason: &str) {
    // A wake waits for this, so the host hears "stop" before "start".
    let _life = machine.life.lock().await;
    if !machine.is_draining() {
        return;
    }
    shared.workers.log(&machine.app.name, Some(&machine.id), format!("Stopping: {reason}"));
    if let Err(why) = shared.workers.stop_idle(&machine.id, reason).await {
        tracing::warn!(machine = machine.id, ?why, "idle stop refused");
        machine.undrain();
    }
    machine.app.changed.notify_waiters();
}

/// Says so where an app will never come back (D1).
pub(crate) fn warn_of_no_return(shared: &Shared, route: &Route) {
    let stops = |s: &&Service| s.autostop.unwrap_or_default() != Autostop::Off;
    let lost = route.services.iter().filter(stops).any(|s| s.autostart == Some(false));
    if lost {
        let text = "autostop is on and autostart is off: once stopped for being idle, \
                    this machine is not started by requests";
        tracing::warn!(app = route.app, machine = route.machine, "{text}");
        shared.workers.log(&route.app, Some(&route.machine), format!("Warning: {text}"));
    }
}
