//! Runs of machines with a schedule.

use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT};
use crate::{Error, Platform, lookup};
use wire::machines::ScheduleRun;

/// Runs of an answer if no number is asked for, and at most.
const DEFAULT_RUNS: usize = 20;
const MAX_RUNS: usize = 100;

/// Newest runs first.
///
/// # Errors
/// There is no such machine, or its host failed.
pub async fn runs(
    platform: &Platform,
    app: &str,
    machine: &str,
    limit: Option<usize>,
) -> Result<Vec<ScheduleRun>, Error> {
    let limit = limit.unwrap_or(DEFAULT_RUNS).clamp(1, MAX_RUNS);
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.runs(context, id, limit).await)
        .await
}

/// Begins a run now.
///
/// # Errors
/// There is no such machine, it has no schedule, another run is under way, or its host
/// refused it.
pub async fn run_now(platform: &Platform, app: &str, machine: &str) -> Result<ScheduleRun, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call_once(platform, CHANGE_TIMEOUT, async |host, context, id| {
            host.run_now(context, id).await
        })
        .await
}
