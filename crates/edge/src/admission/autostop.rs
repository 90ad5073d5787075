//! Stops or suspends idle machines: the shell around [`model::autostop`].
//!
//! A group is the machines of one app and region with the same outside ports. A
//! machine counts as idle only while it has no request, no streaming answer, no
//! upgraded connection and no session, and while no request of its app is held. A
//! machine of which some service forbids autostop is never stopped. Whether one
//! that is to be suspended can be is the host's to know: it stops it if not.
//!
//! An app is looked at when something about it changes, when the seconds of one
//! of its machines are over, and once per interval; the other apps are not.

use crate::admission::machine::Machine;
use crate::shared::Shared;
use crate::table::app::{App, Row, limits};
use host_api::{CallContext, Route, RouteState};
use model::autostop::{Running, keep, next_due, stops};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use wire::machines::{Autostop, Service};

/// How long the host may take to record a stop.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// After a refused stop, or while sessions are open, the machine is left alone
/// for so long.
const POSTPONED: Duration = Duration::from_secs(1);

/// Machines that are alike, and what autostop makes of them.
struct Group {
    rows: Vec<Arc<Row>>,
    running: Vec<Running>,
    keep: usize,
}

/// When each app is to be looked at again; one entry per app.
#[derive(Debug, Default)]
struct Agenda {
    due: BTreeSet<(Instant, Arc<str>)>,
    of: HashMap<Arc<str>, Instant>,
}

impl Agenda {
    fn set(&mut self, app: Arc<str>, at: Option<Instant>) {
        if let Some(before) = self.of.remove(&app) {
            self.due.remove(&(before, app.clone()));
        }
        if let Some(at) = at {
            self.of.insert(app.clone(), at);
            self.due.insert((at, app));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes an app that is due.
    fn pop(&mut self, now: Instant) -> Option<Arc<str>> {
        self.next().filter(|at| *at <= now)?;
        let (_, app) = self.due.pop_first()?;
        self.of.remove(&app);
        Some(app)
    }
}

/// Watches until the edge stops.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let every = shared.config.autostop_interval;
    let mut next_pass = Instant::now() + every;
    let mut agenda = Agenda::default();
    loop {
        let until = agenda.next().map_or(next_pass, |due| due.min(next_pass));
        tokio::select! {
            () = shared.idle_queue.wait() => {}
            () = sleep_until(until) => {}
        }
        let now = Instant::now();
        if now >= next_pass {
            next_pass = now + every;
            for name in shared.table.names() {
                look_at(&shared, &mut agenda, name, true);
            }
        }
        for name in shared.idle_queue.take() {
            look_at(&shared, &mut agenda, name, false);
        }
        while let Some(name) = agenda.pop(now) {
            look_at(&shared, &mut agenda, name, false);
        }
    }
}

/// Stops what is to be stopped of one app, and notes when to look again.
fn look_at(shared: &Arc<Shared>, agenda: &mut Agenda, name: Arc<str>, is_pass: bool) {
    /// What is due now and was not stopped has changed a moment ago.
    const SOON: Duration = Duration::from_millis(20);
    let Some(entry) = shared.table.get(&name) else { return agenda.set(name, None) };
    let app = entry.load();
    app.shared.begin_idle_check();
    shared.metrics.idle_checks.inc();
    // Looked at again when the last of them has been answered.
    if app.shared.waiting.load(SeqCst) > 0 {
        return agenda.set(name, None);
    }
    let mut wait: Option<Duration> = None;
    for group in groups_of(&app, &shared.config.region) {
        let every = shared.config.autostop_interval;
        for index in stops(&group.running, group.keep, is_pass.then_some(every)) {
            stop_idle_machine(shared, &group.rows[index], group.running[index].idle);
        }
        let due = next_due(&group.running, group.keep);
        wait = [wait, due].into_iter().flatten().min();
    }
    agenda.set(name, wait.map(|wait| Instant::now() + wait.max(SOON)));
}

fn groups_of(app: &App, region: &str) -> Vec<Group> {
    type Alike<'a> = (&'a str, Vec<Option<u16>>);
    let mut groups: HashMap<Alike<'_>, Vec<&Arc<Row>>> = HashMap::new();
    for row in &app.rows {
        let route = &row.route;
        let machine = &row.machine;
        // One that cannot be reached must not stand for one that can.
        let counts = machine.host.is_reachable() && !machine.is_draining();
        if route.state == RouteState::Started && !route.cordoned && counts {
            groups.entry((&route.region, outside_ports(route))).or_default().push(row);
        }
    }
    let group = |rows: Vec<&Arc<Row>>| {
        let keep = rows.iter().map(|row| keep_of(row, region)).max().unwrap_or(0);
        let running = rows.iter().map(|row| running(row)).collect();
        Group { rows: rows.into_iter().cloned().collect(), running, keep }
    };
    groups.into_values().map(group).collect()
}

/// What makes two machines interchangeable for the edge.
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
    let machine = &row.machine;
    let allowed = |s: &Service| s.autostop.unwrap_or_default() != Autostop::Off;
    let autostop = !services.is_empty() && services.iter().all(allowed);
    let mut load = machine.in_flight();
    if autostop && load == 0 {
        let sessions = machine.host.api.load.sessions(machine.id);
        if sessions > 0 {
            machine.postpone_autostop(POSTPONED);
            load = u32::try_from(sessions).unwrap_or(u32::MAX);
        }
    }
    let over = |s: &Service| s.internal_port.is_some_and(|port| row.load(port) >= limits(s).0);
    let after = services.iter().filter_map(|s| s.autostop_after_seconds).max();
    let after = after.map(|s| Duration::from_secs(s.into()).max(machine.autostop_postponed()));
    Running {
        autostop,
        load,
        over_soft: services.iter().any(over),
        idle: if load == 0 { machine.idle_since().elapsed() } else { Duration::ZERO },
        after,
    }
}

/// How an idle machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdleAction {
    Stop,
    Suspend,
}

impl IdleAction {
    /// Stops only if every service is set to. To suspend is the more cautious of
    /// the two: it loses nothing that the service which asked for it, or the other
    /// one, has in memory, and the next request waits less.
    fn of(services: &[Service]) -> Self {
        let stops = |s: &Service| s.autostop == Some(Autostop::Stop);
        if services.iter().all(stops) { Self::Stop } else { Self::Suspend }
    }
}

/// Puts an idle machine down unless a request has come meanwhile.
fn stop_idle_machine(shared: &Shared, row: &Row, idle: Duration) {
    let machine = &row.machine;
    let Ok(_free) = machine.lifecycle_lock.try_lock() else { return };
    let is_wanted = || machine.app.waiting.load(SeqCst) > 0;
    if is_wanted() || !machine.try_drain() {
        return;
    }
    // A request that could not be sent yet is counted as held before it gives its
    // place back: it may have done both since the first look.
    if is_wanted() {
        machine.end_drain();
        machine.app.changed.notify_waiters();
        return;
    }
    // A guest that is suspended should not wake with connections whose other end
    // is gone: they are closed before the host is called.
    machine.retire_connections();
    let action = IdleAction::of(&row.route.services);
    let reason = format!("idle for {:.0}s", idle.as_secs_f64());
    match action {
        IdleAction::Stop => shared.metrics.idle_stops.inc(),
        IdleAction::Suspend => shared.metrics.idle_suspends.inc(),
    };
    let machine = machine.clone();
    shared.spawn(async move { call_host(&machine, action, reason).await });
}

async fn call_host(machine: &Machine, action: IdleAction, reason: String) {
    // A wake waits for this, so the host gets the stop before the start.
    let _lifecycle = machine.lifecycle_lock.lock().await;
    if !machine.is_draining() {
        return;
    }
    let (load, id) = (&machine.host.api.load, machine.id);
    let context = CallContext::edge(CALL_DEADLINE).at(machine.ownership);
    let (line, answer) = match action {
        IdleAction::Stop => {
            (format!("Stopping: {reason}"), load.stop_idle(context, id, reason).await)
        }
        IdleAction::Suspend => {
            (format!("Suspending: {reason}"), load.suspend_idle(context, id, reason).await)
        }
    };
    match answer {
        Ok(()) => machine.log("info", line),
        Err(why) => {
            // Such as one with a session that this edge does not see.
            tracing::debug!(machine = %id, ?action, ?why, "refused for an idle machine");
            machine.end_drain();
            machine.postpone_autostop(POSTPONED);
            machine.app.request_idle_check();
        }
    }
    machine.app.changed.notify_waiters();
}

/// Warns where a machine will never come back.
pub(crate) fn warn_if_never_restarted(machine: &Machine, route: &Route) {
    let stops = |s: &&Service| s.autostop.unwrap_or_default() != Autostop::Off;
    let stays_down = |s: &Service| !s.autostart.unwrap_or(!route.disable_autostart);
    if route.services.iter().filter(stops).any(stays_down) {
        let text = "autostop is on and autostart is off: once it is stopped for being idle, \
                    this machine is not started by requests";
        tracing::warn!(app = %route.app_name, machine = %route.machine, "{text}");
        machine.log("warn", format!("Warning: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_of_which_all_services_want_a_stop_is_stopped() {
        use Autostop::{Stop, Suspend};
        let service = |autostop| Service { autostop: Some(autostop), ..Service::default() };
        for (services, action) in [
            (&[Stop][..], IdleAction::Stop),
            (&[Suspend], IdleAction::Suspend),
            (&[Stop, Stop], IdleAction::Stop),
            (&[Stop, Suspend], IdleAction::Suspend),
            (&[Suspend, Suspend], IdleAction::Suspend),
        ] {
            let all: Vec<_> = services.iter().copied().map(service).collect();
            assert_eq!(IdleAction::of(&all), action, "{services:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_on_the_agenda_once() {
        let mut agenda = Agenda::default();
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        agenda.set(a.clone(), Some(later));
        agenda.set(b.clone(), Some(later));
        agenda.set(a.clone(), Some(now));
        assert_eq!(agenda.next(), Some(now));
        assert_eq!(agenda.pop(now), Some(a));
        assert_eq!(agenda.pop(now), None);
        agenda.set(b, None);
        assert_eq!((agenda.next(), agenda.of.len()), (None, 0));
    }
}
