//! Reading one machine: its state, events, versions, checks and processes.

use super::leases;
use super::list::unreachable_machine;
use crate::hosts::READ_TIMEOUT;
use crate::{Error, Kind, Platform, lookup};
use model::id::{BadId, EventId};
use wire::machines::{CheckReport, Lease, Machine, MachineEvent, MachineVersion, Process};

/// Events of an answer if no number is asked for, and at most.
const DEFAULT_EVENTS: usize = 20;
const MAX_EVENTS: usize = 50;

/// Time to list processes, for which the guest is asked.
const GUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// One machine. If its host cannot be reached, it is made from its record. With `leased`
/// it shows its lease, without the nonce.
///
/// # Errors
/// There is no such machine.
pub async fn get(
    platform: &Platform,
    app: &str,
    machine: &str,
    leased: bool,
) -> Result<Machine, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let asked = found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.machine(context, id).await);
    match asked.await {
        Err(err) if matches!(err.kind, Kind::Unavailable | Kind::InDoubt) => {
            tracing::warn!(machine = %found.id, error = %err, "read a machine");
            let record = lookup::whole_record(platform, found.id).await?;
            record.map(|record| unreachable_machine(found.id, &record)).ok_or(err)
        }
        Ok(mut machine) if leased => {
            let lease = leases::held(platform, &found).await?;
            machine.lease = lease.map(|lease| Lease { nonce: None, ..lease });
            Ok(machine)
        }
        answer => answer,
    }
}

/// Newest events first; with `before` those that are older than the event of this id.
///
/// # Errors
/// There is no such machine, or its host failed.
pub async fn events(
    platform: &Platform,
    app: &str,
    machine: &str,
    limit: Option<usize>,
    before: Option<&str>,
) -> Result<Vec<MachineEvent>, Error> {
    let limit = limit.unwrap_or(DEFAULT_EVENTS).clamp(1, MAX_EVENTS);
    let before: Option<Result<EventId, BadId>> = before.map(str::parse);
    let before = before.transpose().map_err(|err| Error::invalid("before", err.to_string()))?;
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, READ_TIMEOUT, async |host, context, id| {
            host.events(context, id, limit, before).await
        })
        .await
}

/// All versions of the config that are kept, newest first.
///
/// # Errors
/// There is no such machine, or its host failed.
pub async fn versions(
    platform: &Platform,
    app: &str,
    machine: &str,
) -> Result<Vec<MachineVersion>, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.versions(context, id).await)
        .await
}

/// Its health checks, each with its newest run.
///
/// # Errors
/// There is no such machine, or its host failed.
pub async fn checks(
    platform: &Platform,
    app: &str,
    machine: &str,
) -> Result<Vec<CheckReport>, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.checks(context, id).await)
        .await
}

/// Processes in the guest, in no order.
///
/// # Errors
/// There is no such machine, it does not run, or its host failed.
pub async fn processes(
    platform: &Platform,
    app: &str,
    machine: &str,
) -> Result<Vec<Process>, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, GUEST_TIMEOUT, async |host, context, id| host.processes(context, id).await)
        .await
}
