//! The busy lease: a machine declares that it works, so that it is not stopped or suspended
//! as idle before the lease ends (docs/guest.md).

use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT};
use crate::{Error, Platform, lookup};
use rt::clock::rfc3339;
use wire::machines::Busy;

/// Seconds of a lease that names none, and the most it may name; it is renewed by asking again.
const DEFAULT_TTL: u64 = 60;
const MAX_TTL: u64 = 3600;

/// Whether the machine is busy.
///
/// # Errors
/// There is no such machine, or its host failed.
pub async fn busy(platform: &Platform, app: &str, machine: &str) -> Result<Busy, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let shown = found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.machine(context, id).await)
        .await?;
    let now = rfc3339(platform.clock().now_ms());
    // Both have the same form, so the later one is the greater one.
    let expires_at = shown.busy_until.filter(|until| *until > now);
    Ok(Busy { busy: expires_at.is_some(), expires_at })
}

/// Declares the machine busy for `ttl` seconds from now.
///
/// # Errors
/// The time is not allowed, the machine does not run, or as [`busy`].
pub async fn hold_busy(
    platform: &Platform,
    app: &str,
    machine: &str,
    ttl: Option<u64>,
) -> Result<Busy, Error> {
    let ttl = ttl.unwrap_or(DEFAULT_TTL);
    if !(1..=MAX_TTL).contains(&ttl) {
        let rule = format!("must be from 1 to {MAX_TTL} seconds, not {ttl}");
        return Err(Error::invalid("ttl", rule));
    }
    set(platform, app, machine, ttl * 1000).await
}

/// Ends that.
///
/// # Errors
/// The machine does not run, or as [`busy`].
pub async fn end_busy(platform: &Platform, app: &str, machine: &str) -> Result<Busy, Error> {
    set(platform, app, machine, 0).await
}

async fn set(platform: &Platform, app: &str, machine: &str, ttl_ms: u64) -> Result<Busy, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let until = found.call(platform, CHANGE_TIMEOUT, |host, context, id| async move {
        host.set_busy(context, id, ttl_ms).await
    });
    let expires_at = until.await?.map(rfc3339);
    Ok(Busy { busy: expires_at.is_some(), expires_at })
}
