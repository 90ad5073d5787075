//! From an app's name to a place at one of its machines; the request is held
//! until there is one. Its body is not read meanwhile.

use crate::admission::app::AppShared;
use crate::admission::attempt::{RequestAttempt, WAKES};
use crate::admission::permit::Permit;
use crate::admission::wake::wake;
use crate::http::code::Code;
use crate::http::failure::Failure;
use crate::routing::balance::{Availability, Decision, decide};
use crate::shared::Core;
use crate::table::app::App;
use crate::table::target::Target;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A limit below the pushes: nothing should ever need it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Counts a request as held, while it is.
struct Waiting<'a>(&'a AppShared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, SeqCst) == 1 {
            // No machine of the app is stopped while a request is held.
            self.0.request_idle_check();
        }
    }
}

/// A place at a machine, and where that is.
pub(crate) type Place = (Target, Permit);

/// Finds a place for a request to `app`, at once or after a wake.
pub(crate) async fn acquire(
    core: &Arc<Core>,
    app: &str,
    ports: &[u16],
    attempt: &mut RequestAttempt,
) -> Result<Place, Failure> {
    let shared = {
        let entry = core.table.get(app).ok_or_else(|| no_app(core, app, attempt))?;
        let now = entry.load();
        if attempt.avoid.is_empty()
            && let Step::Place(place) = step(core, &now, ports, attempt, 0)?
        {
            attempt.kept = None;
            return Ok(*place);
        }
        now.shared.clone()
    };
    hold(core, &shared, ports, attempt).await
}

/// Why there is no app of this name in the table.
pub(crate) fn no_app(core: &Core, name: &str, attempt: &RequestAttempt) -> Failure {
    match &attempt.last {
        Some(last) => Failure { code: Code::Pr02, ..last.clone() },
        None if core.shared.directory.app_id(name).is_some() => {
            Failure::new(Code::Pr01, "the app has no machines")
        }
        None => Failure::new(Code::Ur01, "no app of this name has machines"),
    }
}

/// What one look at the table leads to.
enum Step {
    Place(Box<Place>),
    /// Look again when something changes.
    Wait(Why),
}

#[derive(Clone, Copy, PartialEq)]
enum Why {
    Starting,
    Full,
    /// All that are up fail a readiness check.
    Unhealthy,
    /// All that are up have just failed this request.
    Failing,
}

fn step(
    core: &Arc<Core>,
    app: &App,
    ports: &[u16],
    attempt: &mut RequestAttempt,
    waiting: usize,
) -> Result<Step, Failure> {
    let Some(targets) = app.targets(ports) else {
        return Err(Failure::new(Code::Ur02, app.no_service(ports[0])));
    };
    attempt.counts_connections = targets[0].connection_per_request;
    let tried = &*attempt;
    let candidate = |i: usize| {
        let mut candidate = targets[i].candidate();
        let state = &mut candidate.availability;
        if *state != Availability::Starting && tried.excludes(&targets[i].machine) {
            *state = Availability::Unavailable;
        }
        if *state == Availability::Ready && tried.is_settling(&targets[i].machine) {
            *state = Availability::Starting;
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
            // Refused: another request took the place, or the machine drains.
            // Either ends in a notification.
            Ok(target.admit().map_or(Step::Wait(Why::Full), |permit| {
                Step::Place(Box::new((target.clone(), permit)))
            }))
        }
        Decision::Wake(_) | Decision::WaitForStart if waiting == 0 => Ok(Step::Wait(Why::Starting)),
        Decision::Wake(which) => start_wake(core, &targets[which], attempt),
        Decision::WaitForStart => {
            for target in targets {
                if let Some(pending) = target.machine.current_wake(target.version) {
                    attempt.join(&target.machine, pending);
                }
            }
            if targets.iter().any(|t| t.candidate().availability == Availability::Starting) {
                attempt.record_starting();
            }
            Ok(Step::Wait(Why::Starting))
        }
        Decision::WaitForCapacity => Ok(Step::Wait(Why::Full)),
        Decision::WaitForHealth => Ok(Step::Wait(Why::Unhealthy)),
        _ if !attempt.avoid.is_empty() => Ok(Step::Wait(Why::Failing)),
        Decision::AutostartDisabled | Decision::NoMachine => Err(no_machine(attempt, targets)),
    }
}

fn start_wake(
    core: &Arc<Core>,
    target: &Target,
    attempt: &mut RequestAttempt,
) -> Result<Step, Failure> {
    if !attempt.may_wake(&target.machine) {
        let why = target.last_failure.as_deref().unwrap_or("it stopped before it listened");
        let text = format!("the machine was started {WAKES} times: {why}");
        return Err(Failure::new(Code::Pm07, text).on(target.machine.id));
    }
    let pending = wake(&core.shared, target);
    attempt.join(&target.machine, pending);
    attempt.record_starting();
    Ok(Step::Wait(Why::Starting))
}

fn no_machine(attempt: &mut RequestAttempt, targets: &[Target]) -> Failure {
    attempt.last.take().unwrap_or_else(|| {
        let failed = targets.iter().find_map(|t| t.last_failure.as_ref());
        let why = failed.map(|why| format!("; last failure: {why}")).unwrap_or_default();
        Failure::new(Code::Pr01, format!("no machine runs, and none may be woken{why}"))
    })
}

async fn hold(
    core: &Arc<Core>,
    app: &Arc<AppShared>,
    ports: &[u16],
    attempt: &mut RequestAttempt,
) -> Result<Place, Failure> {
    let config = &core.shared.config;
    // A request that was held before keeps waiting, however many have come since.
    let is_new = attempt.held_since.is_none();
    if app.waiting.fetch_add(1, SeqCst) >= config.max_held && is_new {
        app.waiting.fetch_sub(1, SeqCst);
        let text = format!("{} requests are waiting already", config.max_held);
        return Err(attempt.over_limit(text));
    }
    let _waiting = Waiting(app);
    let held_since = Instant::now();
    attempt.held_since.get_or_insert(held_since);
    if let Some(kept) = attempt.kept.take() {
        kept.release_silently();
    }
    let mut stopping = std::pin::pin!(core.shared.tasks.stopping());
    loop {
        let changed = app.changed.notified();
        let mut changed = std::pin::pin!(changed);
        // From here on nothing is missed.
        changed.as_mut().enable();
        attempt.reap_finished();
        let (why, until, failure) = {
            let entry =
                core.table.get(&app.name).ok_or_else(|| no_app(core, &app.name, attempt))?;
            let now = entry.load();
            match step(core, &now, ports, attempt, app.waiting.load(SeqCst))? {
                Step::Place(place) => {
                    if attempt.timestamps.record_placed() {
                        let began = attempt.timestamps.began;
                        core.shared.metrics.record_wake_stage("listening", began.elapsed());
                    }
                    return Ok(*place);
                }
                Step::Wait(why) => {
                    let (until, failure) = deadline(core, why, held_since, attempt, ports, &now);
                    (why, until, failure)
                }
            }
        };
        if Instant::now() >= until {
            return Err(failure);
        }
        let pause = match why {
            _ if !attempt.settling.is_empty() => attempt.quick.pause(&core.rng),
            Why::Failing => attempt.backoff.pause(&core.rng),
            _ => LOOK_AGAIN.min(config.still_waiting_every),
        };
        tokio::select! {
            biased;
            // No machine is woken any more, and the client must not wait in vain.
            () = &mut stopping => {
                return Err(Failure::new(Code::Ur06, "the request waited for a machine"));
            }
            () = changed => {}
            () = sleep_until(until.min(Instant::now() + pause)) => {}
        }
        log_waiting(core, app, ports, why, attempt);
        attempt.avoid.clear();
        attempt.settling.clear();
    }
}

/// Until when to wait for `why`, and what to answer then.
fn deadline(
    core: &Core,
    why: Why,
    held_since: Instant,
    attempt: &mut RequestAttempt,
    ports: &[u16],
    app: &App,
) -> (Instant, Failure) {
    let config = &core.shared.config;
    if why == Why::Full {
        let since = *attempt.full_since.get_or_insert_with(Instant::now);
        let limit = config.capacity_timeout;
        let text = format!("all machines were at their hard limit for {limit:?}");
        return (since + limit, attempt.over_limit(text));
    }
    attempt.full_since = None;
    if why == Why::Unhealthy {
        let limit = config.unhealthy_timeout;
        let text = format!("no machine passed its health checks for {limit:?}");
        return (held_since + limit, Failure::new(Code::Pr01, text));
    }
    let limit = config.wake_timeout;
    if let (Why::Failing, Some(last)) = (why, &attempt.last) {
        return (held_since + limit, last.clone());
    }
    let internal = app.targets(ports).map_or(0, |targets| targets[0].port);
    let text = format!(
        "no machine listened on its internal port {internal} (0.0.0.0:{internal}) within \
         {limit:?} of being woken"
    );
    (held_since + limit, Failure::new(Code::Pm03, text))
}

/// One line now and then per app, however many requests wait.
fn log_waiting(core: &Core, app: &AppShared, ports: &[u16], why: Why, attempt: &RequestAttempt) {
    let shared = &core.shared;
    let waited = attempt.held_since.map_or(Duration::ZERO, |since| since.elapsed());
    let every = shared.config.still_waiting_every;
    if waited < every || !shared.may_log(&app.waiting_logged_at, every) {
        return;
    }
    let waited = format!("(waited {:.1}s so far)", waited.as_secs_f64());
    let entry = core.table.get(&app.name);
    let now = entry.as_ref().map(|entry| entry.load());
    let targets = now.as_ref().and_then(|now| now.targets(ports));
    let starts = |t: &&Target| {
        attempt.is_settling(&t.machine) || t.candidate().availability == Availability::Starting
    };
    let starting = targets.into_iter().flatten().find(starts);
    match (why, starting) {
        (Why::Full, _) => {
            let text = format!("Still waiting: all machines at hard limit {waited}");
            app.log(&shared.hosts, "info", text);
        }
        (Why::Unhealthy, _) => {
            let text = format!("Still waiting: all machines fail their health checks {waited}");
            app.log(&shared.hosts, "info", text);
        }
        (_, Some(t)) if t.is_started() => {
            let port = t.port;
            let text = format!("Still waiting for machine to listen on 0.0.0.0:{port} {waited}");
            t.machine.log("info", text);
        }
        (_, Some(t)) => {
            t.machine.log("info", format!("Still waiting for machine to start {waited}"));
        }
        (_, None) => {
            app.log(&shared.hosts, "info", format!("Still waiting for a machine {waited}"));
        }
    }
}
