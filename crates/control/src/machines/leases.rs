//! Leases of machines: one holder at a time may change a machine. Its host grants and
//! checks them; the rule is [`model::lease`].

use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT};
use crate::{Error, Platform, lookup};
use host_api::{AcquireLease, Caller};
use model::lease::{DEFAULT_TTL, MAX_DESCRIPTION, MAX_TTL};
use std::time::Duration;
use wire::machines::{AskLease, Lease};

/// Leases the machine to the caller, or renews the lease that the caller holds.
///
/// # Errors
/// Another caller holds a lease, the request is not valid, or there is no such machine.
pub async fn acquire(
    platform: &Platform,
    app: &str,
    machine: &str,
    ask: AskLease,
) -> Result<Lease, Error> {
    let ttl = ask.ttl.filter(|secs| *secs > 0).map_or(DEFAULT_TTL, Duration::from_secs);
    let wanted = wanted(platform, "ttl", ttl, ask.description)?;
    let found = lookup::machine(platform, app, machine).await?;
    found
        .call(platform, CHANGE_TIMEOUT, |host, context, id| {
            let wanted = wanted.clone();
            async move { host.acquire_lease(context, id, wanted).await }
        })
        .await
}

/// The lease that is held on the machine, with its nonce.
///
/// # Errors
/// There is none, or no such machine.
pub async fn get(platform: &Platform, app: &str, machine: &str) -> Result<Lease, Error> {
    held(platform, &lookup::machine(platform, app, machine).await?).await?.ok_or_else(|| {
        let machine = crate::error::shortened(machine, 80);
        Error::not_found(format!("lease not found: machine {machine} is not leased"))
    })
}

/// Ends the lease whose nonce the caller has sent.
///
/// # Errors
/// No nonce was sent, another caller holds a lease, or there is no such machine.
pub async fn release(platform: &Platform, app: &str, machine: &str) -> Result<(), Error> {
    let found = lookup::machine(platform, app, machine).await?;
    if platform.lease_nonce().is_none() {
        let rule = "the nonce of the lease is required, as header or in the query";
        return Err(Error::invalid("fly-machine-lease-nonce", rule)
            .hint("`updraft machine leases clear` reads the lease and ends it with its nonce"));
    }
    found
        .call(platform, CHANGE_TIMEOUT, async |host, context, id| {
            host.release_lease(context, id).await
        })
        .await
}

/// The lease of a machine, if there is one.
pub(super) async fn held(
    platform: &Platform,
    found: &lookup::Machine,
) -> Result<Option<Lease>, Error> {
    found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.lease(context, id).await)
        .await
}

/// The lease that a create or an update asks for with `lease_ttl`, in seconds.
pub(super) fn of_launch(
    platform: &Platform,
    lease_ttl: Option<u64>,
) -> Result<Option<AcquireLease>, Error> {
    let ttl = lease_ttl.filter(|secs| *secs > 0).map(Duration::from_secs);
    ttl.map(|ttl| wanted(platform, "lease_ttl", ttl, None)).transpose()
}

fn wanted(
    platform: &Platform,
    field: &str,
    ttl: Duration,
    description: Option<String>,
) -> Result<AcquireLease, Error> {
    if ttl > MAX_TTL {
        let most = MAX_TTL.as_secs();
        return Err(Error::invalid(field, format!("must be at most {most} seconds (30 days)")));
    }
    let is_text = |text: &String| text.len() <= MAX_DESCRIPTION && !text.contains(char::is_control);
    if description.as_ref().is_some_and(|text| !is_text(text)) {
        let rule = format!("must be at most {MAX_DESCRIPTION} bytes without control characters");
        return Err(Error::invalid("description", rule));
    }
    let owner = match platform.caller() {
        Caller::Token(name) => name.clone(),
        Caller::Machine(id) => format!("machine {id}"),
        _ => "updraft".to_owned(),
    };
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    Ok(AcquireLease { nonce: platform.new_nonce(), owner, description, ttl_ms })
}
