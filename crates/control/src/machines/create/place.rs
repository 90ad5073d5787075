//! Creating a machine: validate, place, claim, ask the host.

use super::claim::{self, Claim, claim};
use super::confirm::{confirm_soon, destroy_unowned};
use super::confirmations::Confirmation;
use super::images::{Resolved, resolve_images};
use super::repeat::{self, Found};
use crate::apps::mark_deployed;
use crate::hosts::{self, CHANGE_TIMEOUT, READ_TIMEOUT, within};
use crate::machines::leases;
use crate::machines::update::checked_config;
use crate::placement::{self, Candidate, Regions, Wanted};
use crate::secrets::{self, Delivery};
use crate::{Error, Kind, Platform, lookup, orgs, volumes};
use host_api::{AcquireLease, CreateMachine, Host, HostError};
use model::id::{MachineId, MachineName, OrgId, OrgSlug};
use std::sync::Arc;
use store::records::AppRecord;
use wire::machines::{LaunchMachine, Machine, MachineConfig, Mount};

/// How often free volumes are chosen by their names for one create.
const VOLUME_TRIES: u32 = 8;

/// A create that has been validated.
struct Request {
    app: AppRecord,
    org: (OrgId, OrgSlug),
    name: Option<MachineName>,
    config: MachineConfig,
    launch: LaunchMachine,
    lease: Option<AcquireLease>,
}

/// Creates a machine. Runs to its end also when the client disconnects.
///
/// # Errors
/// The request is not valid, no host has room, or a host failed.
pub async fn create(
    platform: &Platform,
    app: &str,
    mut launch: LaunchMachine,
) -> Result<Machine, Error> {
    let app = lookup::app(platform, app).await?.record;
    let name = launch.name.take().filter(|name| !name.is_empty());
    let name = name.map(|name| name.parse()).transpose();
    let name = name.map_err(|err: model::id::BadId| Error::invalid("name", err.to_string()))?;
    name.as_ref().map_or(Ok(()), refuse_ambiguous)?;
    let lease = leases::of_launch(platform, launch.lease_ttl)?;
    let config = checked_config(launch.config.take())?;
    secrets::check_launch(platform, app.id, None, &launch, &config).await?;
    let org = orgs::get(platform, &app.org).await?;
    let slug = org.slug.parse().map_err(|err| Error::internal(format!("organization: {err}")))?;
    let request = Request { app, org: (org.id, slug), name, config, launch, lease };
    let own = platform.clone();
    platform.run_detached(async move { place_again(&own, request).await }).await
}

/// Another create may get the free volume that this one has chosen by its name: then another is
/// chosen.
async fn place_again(platform: &Platform, request: Request) -> Result<Machine, Error> {
    let named = |mount: &Mount| mount.volume.as_ref().is_none_or(String::is_empty);
    let by_name = request.config.mounts.iter().flatten().any(named);
    let mut tries = if by_name { VOLUME_TRIES } else { 1 };
    loop {
        tries -= 1;
        let placed = place(platform, &request).await;
        match placed {
            // One without a field is of the host.
            Err(err) if tries > 0 && err.kind == Kind::Conflict && err.field.is_none() => {}
            placed => return placed,
        }
    }
}

/// A name is used in paths in place of an id: it must not look like one, nor like the
/// path of a call.
fn refuse_ambiguous(name: &MachineName) -> Result<(), Error> {
    const CALLS: [&str; 1] = ["batch"];
    let rule = match name.as_str() {
        id if id.parse::<MachineId>().is_ok() => "must not have the form of a machine id",
        call if CALLS.contains(&call) => "must not be the path of a call of the API",
        _ => return Ok(()),
    };
    Err(Error::invalid("name", format!("{rule}: {:?}", name.as_str())))
}

/// Offers the machine to the hosts, best first, until one takes it.
async fn place(platform: &Platform, request: &Request) -> Result<Machine, Error> {
    let id = match platform.request() {
        None => None,
        Some(key) => match repeat::find(platform, key, &request.app).await? {
            Found::Free(id) => Some(id),
            Found::Claimed(claim) => return create_claimed(platform, request, *claim).await,
            Found::Made(claim, machine) => {
                let nonce = request.lease.as_ref().map(|lease| lease.nonce.clone());
                return created(platform, *claim, Machine { nonce, ..*machine }).await;
            }
        },
    };
    let infos = hosts::infos(platform).await?;
    let memory_mb = request.config.guest.as_ref().and_then(|guest| guest.memory_mb).unwrap_or(0);
    let wanted = Wanted {
        regions: Regions::parse("region", request.launch.region.as_deref().unwrap_or_default())?,
        memory_mb,
        launch: request.launch.skip_launch != Some(true),
    };
    let mut refusal = None;
    let candidates = placement::candidates(&infos, &wanted)?;
    let candidates = volumes::on_hosts(platform, &request.app, &request.config, candidates).await?;
    for (Candidate { host: host_id, region }, mounts) in candidates {
        let Some(host) = platform.hosts().get(host_id) else { continue };
        let images = match resolve_images(platform, &*host, &request.config).await {
            Ok(images) => images,
            // Another host may have the image, or reach its registry.
            Err(err) => {
                refusal = Some(err);
                continue;
            }
        };
        if let Err(err) = put_secrets(platform, &*host, request).await {
            refusal = Some(err);
            continue;
        }
        let config = &MachineConfig { mounts, ..request.config.clone() };
        let app = &request.app.name;
        let claim = claim(
            platform,
            host_id,
            claim::Wanted { app, name: request.name.as_ref(), config, region, id },
        )
        .await?;
        match create_on(platform, &host, &claim, create_machine(request, &claim, images)?).await {
            Ok(machine) => return created(platform, claim, machine).await,
            Err(Refused { err, elsewhere: true }) => refusal = Some(err),
            Err(Refused { err, .. }) => return Err(err),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::new(Kind::Unavailable, "the hosts became unreachable")))
}

/// Asks the host that an earlier try has claimed the machine for.
async fn create_claimed(
    platform: &Platform,
    request: &Request,
    claim: Claim,
) -> Result<Machine, Error> {
    let host = hosts::get(platform, claim.record.owner)?;
    let images = resolve_images(platform, &*host, &request.config).await?;
    put_secrets(platform, &*host, request).await?;
    match create_on(platform, &host, &claim, create_machine(request, &claim, images)?).await {
        Ok(machine) => created(platform, claim, machine).await,
        Err(Refused { err, .. }) => Err(err),
    }
}

/// The host is given the app's secrets before it has the machine: it starts it at once.
async fn put_secrets(platform: &Platform, host: &dyn Host, request: &Request) -> Result<(), Error> {
    let secrets = Delivery::of(platform, request.app.id).await?;
    let context = platform.context(CHANGE_TIMEOUT);
    Ok(within(CHANGE_TIMEOUT, secrets.put_on(host, &context)).await?)
}

/// What the host is asked for.
fn create_machine(
    request: &Request,
    claim: &Claim,
    images: Resolved,
) -> Result<CreateMachine, Error> {
    let no_number = || Error::internal("the claim of a machine has no number");
    Ok(CreateMachine {
        id: claim.id,
        epoch: claim.record.epoch,
        number: claim.record.number.ok_or_else(no_number)?,
        app: request.app.id,
        app_name: request.app.name.clone(),
        org: request.org.0,
        org_slug: request.org.1.clone(),
        network: request.app.network_number,
        name: claim.record.name.clone(),
        region: claim.record.region.clone(),
        // As it was claimed: with the volumes that were chosen for it.
        config: claim.record.config.clone().unwrap_or_else(|| request.config.clone()),
        image: images.root,
        container_images: images.containers,
        skip_launch: request.launch.skip_launch == Some(true),
        cordoned: request.launch.skip_service_registration == Some(true),
        skip_secrets: request.launch.skip_secrets == Some(true),
        lease: request.lease.clone(),
    })
}

/// A create that failed, and whether another host may take the machine.
struct Refused {
    err: Error,
    elsewhere: bool,
}

async fn create_on(
    platform: &Platform,
    host: &Arc<dyn Host>,
    claim: &Claim,
    create: CreateMachine,
) -> Result<Machine, Refused> {
    let (epoch, nonce) = (claim.record.epoch, create.lease.as_ref().map(|it| it.nonce.clone()));
    let key = format!("create-{}-{epoch}", claim.id);
    let context = platform.context(CHANGE_TIMEOUT).at(epoch).keyed(key);
    let err = match within(CHANGE_TIMEOUT, host.create(context, create)).await {
        Ok(machine) => return Ok(machine),
        Err(err) => err,
    };
    let in_doubt = match &err {
        HostError::Internal(_) | HostError::DeadlineExceeded(_) => true,
        HostError::Unavailable { may_have_run, .. } => *may_have_run,
        _ => false,
    };
    let elsewhere = match &err {
        HostError::NoCapacity(_) | HostError::Busy(_) => true,
        HostError::Unavailable { .. } => !in_doubt,
        _ => false,
    };
    if in_doubt {
        let asked = host.machine(platform.context(READ_TIMEOUT), claim.id);
        // If it is there, its answer was lost, nothing else. If not, the call may
        // still arrive: the claim stays, and the reconciler asks again once the
        // call's deadline has passed.
        if let Ok(mut machine) = within(READ_TIMEOUT, asked).await {
            machine.nonce = nonce;
            return Ok(machine);
        }
    } else {
        release_refused(platform, claim).await;
    }
    Err(Refused { err: err.into(), elsewhere })
}

/// Releases the claim of a machine that certainly does not exist.
async fn release_refused(platform: &Platform, claim: &Claim) {
    let own = (claim.record.app, &claim.record.name);
    let released = claim::release(platform, own, claim.id, claim::Release::Claim).await;
    if let Err(err) = released {
        tracing::warn!(machine = %claim.id, error = %err, "release the claim of a refused machine");
    }
}

/// The answer to a create: the machine that the host has. That its record shows so
/// follows after the answer. If the claim was released meanwhile, the machine has no
/// owner, and it is destroyed again.
async fn created(platform: &Platform, claim: Claim, machine: Machine) -> Result<Machine, Error> {
    let Claim { id, app, record, revision } = claim;
    match lookup::by_id(platform, id).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            destroy_unowned(platform, record.owner, id, Some(record.epoch)).await?;
            let why = "the host took too long to create the machine; it was destroyed again";
            return Err(Error::new(Kind::Unavailable, why).hint("try again"));
        }
        Err(err) => tracing::warn!(machine = %id, error = %err, "read the claim of a machine"),
    }
    // Before the machine's record: a record in the state `created` needs nothing more.
    if !app.deployed
        && let Err(err) = mark_deployed(platform, &app).await
    {
        // The machine exists and is claimed: the reconciler records the rest.
        tracing::warn!(app = %app.name, error = %err, "record that an app is deployed");
        return Ok(machine);
    }
    let claimed = (record, revision);
    confirm_soon(platform, Confirmation { id, claimed, machine: machine.clone() }).await;
    Ok(machine)
}
