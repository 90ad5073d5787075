//! Waiting for a machine's state: pushed by the server, bounded here.

use crate::error::{CliError, ErrorContext, Exit, Result};
use client::{Client, LogEvents, LogSearch, WaitQuery};
use std::time::Duration;
use tokio::time::Instant;
use wire::machines::{CheckStatus, Machine, MachineEvent, WaitResult};

/// A new machine that ends within this time has crashed at once.
const SETTLE: Duration = Duration::from_secs(1);
/// Lines of its log that are shown then.
const LAST_LINES: u32 = 5;
/// The checks of a machine are read again after this, even if its log shows no change.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// Pause before a log that has ended is followed again.
const RECONNECT: Duration = Duration::from_millis(500);
/// Longest wait of commands that have no flag for it.
pub(crate) const DEFAULT: Duration = Duration::from_secs(300);

/// Waits in as many calls as it takes, until `query.timeout` is over.
pub(crate) async fn until(
    client: &Client,
    app: &str,
    id: &str,
    mut query: WaitQuery,
) -> Result<WaitResult> {
    let limit = query.timeout;
    let end = Instant::now() + limit;
    let wanted = query.states.join(" or ");
    loop {
        query.timeout = end.saturating_duration_since(Instant::now());
        let over = || {
            let text = format!("Machine {id} is not {wanted} after {} seconds", limit.as_secs());
            let error = CliError::new(Exit::Timeout, text);
            error.hint(format!("`updraft machine status {id} -a {app}` shows what it does."))
        };
        if query.timeout.is_zero() {
            return Err(over());
        }
        match client.wait_machine(app, id, &query).await {
            Err(err) if err.status() == Some(408) => {}
            other => return other.context(|| format!("wait for machine {id}")),
        }
    }
}

/// Waits until all health checks of a machine that runs pass. One that has ended meanwhile
/// has no check to wait for.
pub(crate) async fn healthy(client: &Client, app: &str, id: &str, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    let mut changes = None;
    loop {
        let machine = client.machine(app, id).await;
        let machine = machine.context(|| format!("show machine {id}"))?;
        let waits = |check: &&CheckStatus| check.status != "passing";
        let Some(check) = machine.checks.iter().find(waits) else { return Ok(()) };
        if machine.state != "started" {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(unhealthy(app, id, check, limit));
        }
        let until = end.min(Instant::now() + READ_AGAIN);
        if changes.is_none() {
            // The checks are read once more after it has begun, so that no change is missed.
            changes = platform_lines(client, app, &machine.id, until).await;
        } else if !next_change(&mut changes, until).await {
            changes = None;
        }
    }
}

fn unhealthy(app: &str, id: &str, check: &CheckStatus, limit: Duration) -> CliError {
    let secs = limit.as_secs();
    let text = format!("The health checks of machine {id} do not pass after {secs} seconds");
    CliError::new(Exit::Timeout, text)
        .because(format!("{} is {}: {}", check.name, check.status, check.output))
        .hint(format!("`updraft checks show {id} -a {app}` shows request and answer of each."))
}

/// The lines of a machine's log from now on. Every change of a check is one of them, also the
/// first pass after a start, which is no event of the machine.
async fn platform_lines(client: &Client, app: &str, id: &str, until: Instant) -> Option<LogEvents> {
    let search = LogSearch { instance: Some(id.to_owned()), tail: Some(0), ..LogSearch::default() };
    let lines = tokio::time::timeout_at(until, client.follow_logs(app, &search, None)).await;
    if let Ok(Ok(lines)) = lines {
        return Some(lines);
    }
    // Without the log, such as for want of permission, only time passes.
    tokio::time::sleep_until(until).await;
    None
}

/// Waits for a line of the platform, or until a time; false if the log has ended.
async fn next_change(lines: &mut Option<LogEvents>, until: Instant) -> bool {
    let Some(lines) = lines else { return false };
    let change = async {
        loop {
            match lines.next().await {
                Ok(Some(event))
                    if event.data.as_ref().is_none_or(|line| line.provider == "app") => {}
                Ok(Some(_)) => return true,
                Ok(None) | Err(_) => break,
            }
        }
        // So that a log that ends at once is not asked for without a pause.
        tokio::time::sleep(RECONNECT).await;
        false
    };
    tokio::time::timeout_at(until, change).await.unwrap_or(true)
}

/// Waits until a new machine runs, or has run. Its end with exit code 0 is no
/// failure: that is what a short job does.
pub(crate) async fn first_start(
    client: &Client,
    app: &str,
    machine: &Machine,
    limit: Duration,
) -> Result<String> {
    let states = ["started", "stopped", "suspended", "failed", "destroyed"];
    let states = states.map(str::to_owned).to_vec();
    // No version: a machine that is gone has none to wait for.
    let query = WaitQuery { states, timeout: limit, ..WaitQuery::default() };
    let mut result = until(client, app, &machine.id, query).await?;
    if result.state == "started"
        && let Some(ended) = end_at_once(client, app, machine, &result).await
    {
        result = ended;
    }
    let reached = result.state;
    let logs = format!("`updraft logs -n -a {app} -m {}` shows what it wrote.", machine.id);
    let now = client.machine(app, &machine.id).await.ok();
    let details = now.iter().flat_map(|m| &m.events).find_map(|event| event.request.as_ref());
    // A machine that its restart policy starts again is soon `started` again: then
    // only an exit since it was created counts.
    let is_new = |event: &MachineEvent| machine.events.iter().all(|known| known.id != event.id);
    let events = now.iter().flat_map(|now| &now.events);
    let mut exits = events
        .filter(|event| reached != "started" || is_new(event))
        .filter_map(|event| event.request.as_ref()?.exit_event.as_ref());
    let exit = exits.next();
    let reason = details.and_then(|details| details.reason.clone());
    match (reached.as_str(), exit) {
        ("failed", _) => {
            let error = CliError::failed(format!("Machine {} could not be started", machine.id));
            Err(error.because(reason.unwrap_or_else(|| "No reason is known".into())).hint(logs))
        }
        (_, Some(exit)) if exit.exit_code != 0 => {
            let oom = if exit.oom_killed { ", killed for lack of memory" } else { "" };
            let why = format!("Its main process ended with exit code {}{oom}", exit.exit_code);
            let mut error = CliError::failed(format!("Machine {} has ended", machine.id));
            error = error.because(why);
            if !matches!(reached.as_str(), "stopped" | "destroyed") {
                error = error.because("Its restart policy starts it again");
            }
            for line in last_lines(client, app, &machine.id).await {
                error = error.because(format!("It wrote: {line}"));
            }
            Err(error.hint(logs))
        }
        _ => Ok(reached),
    }
}

/// Whether the machine ends within [`SETTLE`] of its start: a program that
/// crashes at once has not really started, even if its restart policy starts it again.
async fn end_at_once(
    client: &Client,
    app: &str,
    machine: &Machine,
    started: &WaitResult,
) -> Option<WaitResult> {
    let query = WaitQuery {
        states: ["stopped", "failed", "destroyed"].map(str::to_owned).to_vec(),
        from_event: Some(started.event_id.clone()).filter(|id| !id.is_empty()),
        timeout: SETTLE,
        ..WaitQuery::default()
    };
    // Any failure, a timeout above all, means that nothing is known to be wrong.
    let ended = client.wait_machine(app, &machine.id, &query).await.ok()?;
    (ended.state != "started").then_some(ended)
}

/// The newest lines of the machine's log, if they can be had at once.
async fn last_lines(client: &Client, app: &str, id: &str) -> Vec<String> {
    let query =
        LogSearch { instance: Some(id.to_owned()), tail: Some(LAST_LINES), ..LogSearch::default() };
    let mut found = Vec::new();
    if let Ok(mut lines) = client.logs(app, &query).await {
        while let Ok(Some(entry)) = lines.next().await {
            if entry.provider == "app" {
                found.push(crate::parse::shown(&entry.message));
            }
        }
    }
    found
}
