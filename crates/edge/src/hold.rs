//! From an app's name to a place at one of its machines; the request is held
//! until there is one. Its body is not read meanwhile.

use crate::balance::{Decision, Ready, decide};
use crate::config::EdgeConfig;
use crate::core::Core;
use crate::errors::{Code, Failure};
use crate::machine::{AppShared, Flight, Machine, Ticket};
use crate::table::{App, Target};
use crate::timing::Marks;
use crate::wake::wake;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use wire::routes::WakeRefused;

/// Attempts before a request is given up (P028).
const ATTEMPTS: u32 = 90;
/// Wakes one request may cause, not counting those undone by a stop: whoever
/// stops a machine is no reason to think that it cannot start.
const WAKES: usize = 4;

/// What one request has been through.
#[derive(Debug)]
pub(crate) struct Tries {
    pub(crate) marks: Marks,
    /// Since when it has been held, on and off.
    held_since: Option<Instant>,
    failures: u32,
    /// Since when machines that seem up have failed it, without a wake between.
    failing_since: Option<Instant>,
    last: Option<Failure>,
    /// Machines not to be tried next.
    avoid: Vec<Arc<Machine>>,
    /// Machines that have come up, and that nobody has been able to connect to
    /// yet: for this request they are still on their way.
    settling: Vec<Arc<Machine>>,
    /// Its place at one of them until it is counted as held: without either,
    /// autostop would take that machine for idle.
    kept: Option<Ticket>,
    /// Machines that could not be woken.
    refused: Vec<Arc<Machine>>,
    flights: Vec<(Arc<Machine>, Flight)>,
    /// Machines it has woken, and how often each had been asked to stop then.
    woken: Vec<(Arc<Machine>, u64)>,
    backoff: rt::Backoff,
    /// Pauses while a machine settles.
    quick: rt::Backoff,
    full_since: Option<Instant>,
    /// The limits are of type `connections`.
    counts_connections: bool,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self {
            marks: Marks::new(),
            held_since: None,
            failures: 0,
            failing_since: None,
            last: None,
            avoid: Vec::new(),
            settling: Vec::new(),
            kept: None,
            refused: Vec::new(),
            flights: Vec::new(),
            woken: Vec::new(),
            backoff: rt::Backoff::new(Duration::from_millis(20), Duration::from_secs(1)),
            quick: rt::Backoff::new(Duration::from_millis(1), Duration::from_millis(50)),
            full_since: None,
            counts_connections: false,
        }
    }

    fn over_limit(&self, why: String) -> Failure {
        Failure::new(if self.counts_connections { Code::Pl01 } else { Code::Pl02 }, why)
    }

    /// A machine that seemed up has failed the request, which can be repeated.
    pub(crate) fn failed(
        &mut self,
        machine: &Arc<Machine>,
        failure: Failure,
        limit: Duration,
    ) -> Result<(), Failure> {
        self.failures += 1;
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if self.failures >= ATTEMPTS {
            let detail = format!("gave up after {ATTEMPTS} attempts; last: {}", failure.line());
            return Err(Failure::new(Code::Pr03, detail).on(&machine.id));
        }
        if since.elapsed() > limit {
            return Err(failure);
        }
        self.avoid.push(machine.clone());
        self.last = Some(failure);
        Ok(())
    }

    /// A machine has said that it listens, and nobody has been able to connect
    /// since it came up: its guest may only be about to run. That is no failure,
    /// and whoever waits for a wake is not told of it before the wake's time is
    /// over; others have the time of any failure.
    pub(crate) fn not_yet(
        &mut self,
        ticket: Ticket,
        failure: Failure,
        config: &EdgeConfig,
    ) -> Result<(), Failure> {
        let (since, limit) = match self.marks.waits_since() {
            Some(since) => (since, config.wake_timeout),
            None => (*self.failing_since.get_or_insert_with(Instant::now), config.retry_for),
        };
        if since.elapsed() > limit {
            return Err(failure);
        }
        self.settling.push(ticket.machine.clone());
        self.kept = Some(ticket);
        self.last = Some(failure);
        Ok(())
    }

    fn awaits(&self, machine: &Arc<Machine>) -> bool {
        self.settling.iter().any(|m| Arc::ptr_eq(m, machine))
    }

    fn shuns(&self, machine: &Arc<Machine>) -> bool {
        self.avoid.iter().chain(&self.refused).any(|m| Arc::ptr_eq(m, machine))
    }

    fn join(&mut self, machine: &Arc<Machine>, flight: Flight) {
        if !self.flights.iter().any(|(_, known)| known.same_channel(&flight)) {
            self.flights.push((machine.clone(), flight));
        }
    }

    /// Sees which wakes have failed.
    fn land(&mut self) {
        let Self { flights, refused, last, .. } = self;
        flights.retain(|(machine, flight)| {
            let refusal = match &*flight.borrow() {
                None => return true,
                Some(Ok(())) => return false,
                Some(Err(refusal)) => refusal.clone(),
            };
            *last = Some(refusal_failure(&refusal).on(&machine.id));
            refused.push(machine.clone());
            false
        });
    }
}

fn refusal_failure(refusal: &WakeRefused) -> Failure {
    match refusal {
        WakeRefused::Gone => Failure::new(Code::Pr02, "the machine is gone"),
        WakeRefused::NotStartable(why) => {
            Failure::new(Code::Pm08, format!("the machine cannot be started: {why}"))
        }
        WakeRefused::NoCapacity(why) => {
            Failure::new(Code::Pm07, format!("the host has no room for the machine: {why}"))
        }
        WakeRefused::Failed(why) => {
            Failure::new(Code::Pm07, format!("the machine failed to start: {why}"))
        }
    }
}

/// Counts a request as held, while it is.
struct Waiting<'a>(&'a AppShared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// A place at a machine, and where that is.
pub(crate) type Place = (Target, Ticket);

/// Finds a place for a request to `app`, at once or after a wake.
pub(crate) async fn place(
    core: &Arc<Core>,
    app: &str,
    ports: &[u16],
    tries: &mut Tries,
) -> Result<Place, Failure> {
    let shared = {
        let table = core.view.table();
        let app = known(table.apps.get(app), tries)?;
        if tries.avoid.is_empty()
            && let Step::Place(place) = step(core, app, ports, tries, 0)?
        {
            tries.kept = None;
            return Ok(*place);
        }
        app.shared.clone()
    };
    hold(core, &shared, ports, tries).await
}

fn known<'a>(app: Option<&'a Arc<App>>, tries: &Tries) -> Result<&'a Arc<App>, Failure> {
    let gone = |last: &Failure| Failure { code: Code::Pr02, ..last.clone() };
    app.ok_or_else(|| match &tries.last {
        Some(last) => gone(last),
        None => Failure::new(Code::Ur01, "no app of this name has machines"),
    })
}

/// What one look at the table leads to.
enum Step {
    Place(Box<Place>),
    /// Look again when something changes.
    Wait(Why),
}

#[derive(Clone, Copy, PartialEq)]
enum Why {
    Coming,
    Full,
    /// All that are up have just failed this request.
    Failing,
}

fn step(
    core: &Arc<Core>,
    app: &App,
    ports: &[u16],
    tries: &mut Tries,
    waiting: usize,
) -> Result<Step, Failure> {
    let Some(targets) = app.targets(ports) else {
        let text = format!("app {} has no http service on port {}", app.shared.name, ports[0]);
        return Err(Failure::new(Code::Ur02, text));
    };
    tries.counts_connections = targets[0].fresh;
    let tried = &*tries;
    let candidate = |i: usize| {
        let mut candidate = targets[i].candidate();
        if candidate.ready != Ready::Coming && tried.shuns(&targets[i].machine) {
            candidate.ready = Ready::Away;
        }
        if candidate.ready == Ready::Up && tried.awaits(&targets[i].machine) {
            candidate.ready = Ready::Coming;
        }
        candidate
    };
    let chance = core.rng.bits() as usize >> 1;
    match decide(targets.len(), candidate, chance, waiting) {
        Decision::Forward { to, wake: more } => {
            if let Some(more) = more {
                wake(&core.shared, &targets[more]);
            }
            let target = &targets[to];
            let nudge = &core.shared.nudge;
            let ticket = Ticket::take(&target.machine, &target.load, target.hard, nudge);
            // Taken by others meanwhile: what they do will be told.
            Ok(ticket.map_or(Step::Wait(Why::Full), |ticket| {
                Step::Place(Box::new((target.clone(), ticket)))
            }))
        }
        Decision::Wake(_) | Decision::WaitComing if waiting == 0 => Ok(Step::Wait(Why::Coming)),
        Decision::Wake(which) => begin_wake(core, &targets[which], tries),
        Decision::WaitComing => {
            for target in targets {
                if let Some(flight) = target.machine.joinable(target.version) {
                    tries.join(&target.machine, flight);
                }
            }
            if targets.iter().any(|target| target.candidate().ready == Ready::Coming) {
                tries.note_coming();
            }
            Ok(Step::Wait(Why::Coming))
        }
        Decision::WaitCapacity => Ok(Step::Wait(Why::Full)),
        _ if !tries.avoid.is_empty() => Ok(Step::Wait(Why::Failing)),
        Decision::MayNotWake | Decision::Nobody => Err(nobody(tries, targets)),
    }
}

fn begin_wake(core: &Arc<Core>, target: &Target, tries: &mut Tries) -> Result<Step, Failure> {
    let stops = target.machine.stops();
    tries.forget_if_stopped(&target.machine, stops);
    if tries.woken.len() == WAKES {
        let why = target.last_failure.as_deref().unwrap_or("it stopped before it listened");
        let text = format!("the machine was started {WAKES} times: {why}");
        return Err(Failure::new(Code::Pm07, text).on(&target.machine.id));
    }
    tries.woken.push((target.machine.clone(), stops));
    let flight = wake(&core.shared, target);
    tries.join(&target.machine, flight);
    tries.note_coming();
    Ok(Step::Wait(Why::Coming))
}

impl Tries {
    /// Wakes of `machine` do not count if a stop has undone them. Two may lead to
    /// one start, as where a core's table trails, so that is one stop for all.
    fn forget_if_stopped(&mut self, machine: &Arc<Machine>, stops: u64) {
        self.woken.retain(|(woken, then)| !Arc::ptr_eq(woken, machine) || *then == stops);
    }

    /// It now waits for a start, so earlier failures count no longer.
    fn note_coming(&mut self) {
        self.marks.waits();
        self.failing_since = None;
    }
}

fn nobody(tries: &mut Tries, targets: &[Target]) -> Failure {
    tries.last.take().unwrap_or_else(|| {
        let failed = targets.iter().find_map(|t| t.last_failure.as_ref());
        let why = failed.map(|why| format!("; last failure: {why}")).unwrap_or_default();
        Failure::new(Code::Pr01, format!("no machine runs, and none may be woken{why}"))
    })
}

async fn hold(
    core: &Arc<Core>,
    app: &Arc<AppShared>,
    ports: &[u16],
    tries: &mut Tries,
) -> Result<Place, Failure> {
    /// A net below the pushes: nothing should ever need it.
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    let config = &core.shared.config;
    // One that was held before goes on waiting, however many have come since.
    let is_new = tries.held_since.is_none();
    if app.waiting.fetch_add(1, SeqCst) >= config.max_held && is_new {
        app.waiting.fetch_sub(1, SeqCst);
        let text = format!("{} requests are waiting already", config.max_held);
        return Err(tries.over_limit(text));
    }
    let _waiting = Waiting(app);
    let held_since = Instant::now();
    tries.held_since.get_or_insert(held_since);
    tries.kept = None;
    loop {
        let changed = app.changed.notified();
        let mut changed = std::pin::pin!(changed);
        // From here on nothing is missed.
        changed.as_mut().enable();
        tries.land();
        let why = {
            let table = core.view.table();
            let now = known(table.apps.get(&app.name), tries)?;
            match step(core, now, ports, tries, app.waiting.load(SeqCst))? {
                Step::Place(place) => {
                    if tries.marks.placed() {
                        core.shared.metrics.woke("listening", tries.marks.began.elapsed());
                    }
                    return Ok(*place);
                }
                Step::Wait(why) => why,
            }
        };
        let (until, give_up) = deadline(core, why, held_since, tries, ports);
        if Instant::now() >= until {
            return Err(give_up);
        }
        let pause = match why {
            _ if !tries.settling.is_empty() => tries.quick.pause(&core.rng),
            Why::Failing => tries.backoff.pause(&core.rng),
            _ => LOOK_AGAIN.min(config.still_waiting_every),
        };
        tokio::select! {
            () = changed => {}
            () = sleep_until(until.min(Instant::now() + pause)) => {}
        }
        say_waiting(core, app, ports, why, tries);
        tries.avoid.clear();
        tries.settling.clear();
    }
}

/// Until when to wait for `why`, and what to answer then.
fn deadline(
    core: &Core,
    why: Why,
    held_since: Instant,
    tries: &mut Tries,
    ports: &[u16],
) -> (Instant, Failure) {
    let config = &core.shared.config;
    match why {
        Why::Full => {
            let since = *tries.full_since.get_or_insert_with(Instant::now);
            let limit = config.capacity_timeout;
            let text = format!("all machines were at their hard limit for {limit:?}");
            (since + limit, tries.over_limit(text))
        }
        Why::Coming | Why::Failing => {
            tries.full_since = None;
            let limit = config.wake_timeout;
            let text = format!(
                "no machine listened for port {} within {limit:?} of being woken",
                ports[0]
            );
            let last = tries.last.clone().filter(|_| why == Why::Failing);
            (held_since + limit, last.unwrap_or_else(|| Failure::new(Code::Pm03, text)))
        }
    }
}

/// One line now and then per app, however many requests wait (P040).
fn say_waiting(core: &Core, app: &AppShared, ports: &[u16], why: Why, tries: &Tries) {
    let shared = &core.shared;
    let waited = tries.held_since.map_or(Duration::ZERO, |since| since.elapsed());
    let every = shared.config.still_waiting_every;
    if waited < every || !shared.may_log(&app.said_waiting_at, every) {
        return;
    }
    let waited = format!("(waited {:.1}s so far)", waited.as_secs_f64());
    let table = core.view.table();
    let targets = table.apps.get(&app.name).and_then(|app| app.targets(ports));
    let comes = |t: &&Target| tries.awaits(&t.machine) || t.candidate().ready == Ready::Coming;
    let coming = targets.into_iter().flatten().find(comes);
    let (machine, line) = match (why, coming) {
        (Why::Full, _) => (None, format!("Still waiting: all machines at hard limit {waited}")),
        (_, Some(t)) if t.is_started() => {
            let on = t.addr.port();
            let text = format!("Still waiting for machine to listen on 0.0.0.0:{on} {waited}");
            (Some(&*t.machine.id), text)
        }
        (_, Some(t)) => {
            (Some(&*t.machine.id), format!("Still waiting for machine to start {waited}"))
        }
        (_, None) => (None, format!("Still waiting for a machine {waited}")),
    };
    shared.workers.log(&app.name, machine, line);
}
