//! The memory of a machine that runs. None of it makes a version, and no lease guards it.

use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT};
use crate::{Error, Platform, lookup};
use wire::machines::{MachineMemory, MemoryReclaimed};

/// What the machine may use, and how much of it its VM does not hold on the host.
///
/// # Errors
/// There is no such machine, or it does not run.
pub async fn get(platform: &Platform, app: &str, machine: &str) -> Result<MachineMemory, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.memory(context, id).await)
        .await
}

/// Limits what the machine uses until the end of its boot.
///
/// # Errors
/// The host cannot enforce the limit, or as [`get`].
pub async fn limit(
    platform: &Platform,
    app: &str,
    machine: &str,
    limit_mb: u32,
) -> Result<MachineMemory, Error> {
    check("limit_mb", limit_mb)?;
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, CHANGE_TIMEOUT, async |host, context, id| {
            host.limit_memory(context, id, limit_mb).await
        })
        .await
}

/// Takes memory from the machine's VM; how much was given back in fact.
///
/// # Errors
/// As [`get`].
pub async fn reclaim(
    platform: &Platform,
    app: &str,
    machine: &str,
    amount_mb: u32,
) -> Result<MemoryReclaimed, Error> {
    check("amount_mb", amount_mb)?;
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, CHANGE_TIMEOUT, async |host, context, id| {
            host.reclaim_memory(context, id, amount_mb).await
        })
        .await
}

fn check(field: &str, mib: u32) -> Result<(), Error> {
    match mib {
        0 => Err(Error::invalid(field, "must be at least 1 (MiB)")),
        _ => Ok(()),
    }
}
