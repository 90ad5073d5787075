//! Start, stop, suspend, restart, signal, cordon, destroy; and the busy lease: a machine
//! declares that it works, so that it is not stopped or suspended as idle before the lease
//! ends (docs/guest.md).

use super::create::{Release, release};
use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT};
use crate::secrets::Delivery;
use crate::{Error, Kind, Platform, lookup};
use host_api::Stop;
use rt::clock::rfc3339;
use wire::machines::{Busy, Started};

/// Seconds of a lease that names none, and the most it may name; it is renewed by asking again.
const DEFAULT_TTL: u64 = 60;
const MAX_TTL: u64 = 3600;

/// Wants the machine to run; one that is suspended is resumed.
///
/// # Errors
/// There is no such machine, or its state does not allow it.
pub async fn start(platform: &Platform, app: &str, machine: &str) -> Result<Started, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let secrets = Delivery::of(platform, found.record.app).await?;
    found
        .call(platform, CHANGE_TIMEOUT, async |host, context, id| {
            secrets.put_on(&*host, &context).await?;
            host.start(context, id).await
        })
        .await
}

/// Wants the machine to be stopped.
///
/// # Errors
/// As [`start`].
pub async fn stop(platform: &Platform, app: &str, machine: &str, stop: Stop) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, CHANGE_TIMEOUT, |host, context, id| {
            let stop = stop.clone();
            async move { host.stop(context, id, stop).await }
        })
        .await
}

/// Wants the machine to be suspended.
///
/// # Errors
/// As [`start`].
pub async fn suspend(platform: &Platform, app: &str, machine: &str) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, CHANGE_TIMEOUT, async |host, context, id| host.suspend(context, id).await)
        .await
}

/// Stops and starts the machine; with `force` also one that is not started.
///
/// # Errors
/// As [`start`].
pub async fn restart(
    platform: &Platform,
    app: &str,
    machine: &str,
    stop: Stop,
    force: bool,
) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let secrets = Delivery::of(platform, found.record.app).await?;
    found
        .call_once(platform, CHANGE_TIMEOUT, |host, context, id| {
            let (stop, secrets) = (stop.clone(), &secrets);
            async move {
                secrets.put_on(&*host, &context).await?;
                host.restart(context, id, stop, force).await
            }
        })
        .await
}

/// Sends a signal, by Linux number, to the main process.
///
/// # Errors
/// As [`start`].
pub async fn signal(
    platform: &Platform,
    app: &str,
    machine: &str,
    signal: i32,
) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call_once(platform, CHANGE_TIMEOUT, async |host, context, id| {
            host.signal(context, id, signal).await
        })
        .await
}

/// Takes the machine out of routing, or back in.
///
/// # Errors
/// As [`start`].
pub async fn cordon(
    platform: &Platform,
    app: &str,
    machine: &str,
    cordoned: bool,
) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, CHANGE_TIMEOUT, async |host, context, id| {
            host.cordon(context, id, cordoned).await
        })
        .await
}

/// Wants the machine to be destroyed, a running one only with `force`; its name
/// is free at once. Runs to its end also when the client disconnects.
///
/// # Errors
/// As [`start`].
pub async fn destroy(
    platform: &Platform,
    app: &str,
    machine: &str,
    force: bool,
) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let own = platform.clone();
    let done = platform.run_detached(async move {
        let record = &found.record;
        let asked = found
            .call(&own, CHANGE_TIMEOUT, async |host, context, id| {
                host.destroy(context, id, force).await
            })
            .await;
        match asked {
            // It has been destroyed, and its host still remembers it: so does its record.
            Err(err) if err.kind == Kind::NotFound && is_remembered(&own, &found).await => {}
            // The host has lost it, and its user wants it gone: so is its record.
            Err(err) if err.kind == Kind::NotFound && record.created => {
                return release(&own, (record.app, &record.name), found.id, Release::Record).await;
            }
            Err(err) if err.kind == Kind::Conflict && !force => {
                return Err(err.hint("stop the machine first, or add force=true"));
            }
            asked => asked?,
        }
        // The host has recorded that the machine is to be destroyed: a name that
        // could not be freed here is freed by the reconciler.
        if let Err(err) = release(&own, (record.app, &record.name), found.id, Release::Name).await {
            tracing::warn!(machine = %found.id, error = %err, "free the name of a machine");
        }
        Ok(())
    });
    done.await
}

/// The host of the machine still shows it.
async fn is_remembered(platform: &Platform, found: &lookup::Machine) -> bool {
    let shown = found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.machine(context, id).await);
    shown.await.is_ok()
}

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
    set_busy(platform, app, machine, ttl * 1000).await
}

/// Ends that.
///
/// # Errors
/// The machine does not run, or as [`busy`].
pub async fn end_busy(platform: &Platform, app: &str, machine: &str) -> Result<Busy, Error> {
    set_busy(platform, app, machine, 0).await
}

async fn set_busy(
    platform: &Platform,
    app: &str,
    machine: &str,
    ttl_ms: u64,
) -> Result<Busy, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let until = found.call(platform, CHANGE_TIMEOUT, |host, context, id| async move {
        host.set_busy(context, id, ttl_ms).await
    });
    let expires_at = until.await?.map(rfc3339);
    Ok(Busy { busy: expires_at.is_some(), expires_at })
}
