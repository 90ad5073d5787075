//! Creating a volume: validate, place, claim, ask the host, confirm.

use super::change::{check_retention, check_size};
use super::record;
use super::shown::of_host;
use crate::hosts::{self, CHANGE_TIMEOUT, within};
use crate::placement::{self, Candidate, Regions};
use crate::retry::{Tries, change_record};
use crate::{Error, Kind, Platform, config, lookup, orgs};
use bytes::Bytes;
use host_api::{HostError, HostInfo, HostVolume, NewVolume};
use model::id::{AppId, HostId, OrgId, VolumeId};
use model::volume::{DEFAULT_RETENTION_DAYS, DEFAULT_SIZE_GB, FileSystem, VolumeName};
use std::collections::BTreeSet;
use store::records::{self, AppRecord, VolumeRecord, encode};
use store::{Compare, Op, Txn};
use wire::machines::{CreateVolume, Volume};

/// A volume that was made, and what the client is to know about it.
#[derive(Clone, Debug)]
pub struct Created {
    /// The volume.
    pub volume: Volume,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// A create that has been validated.
#[derive(Clone, Debug)]
struct Wanted {
    name: VolumeName,
    regions: Regions,
    size_gb: u32,
    fstype: FileSystem,
    retention: u32,
    backups: bool,
    /// MiB of the machine that is to use it.
    memory_mb: u32,
    unique_zone: bool,
    app_wide: bool,
}

/// Creates a volume. Runs to its end also when the client disconnects.
///
/// # Errors
/// The request is not valid, no host has room, or a host failed.
pub async fn create(platform: &Platform, app: &str, ask: CreateVolume) -> Result<Created, Error> {
    let app = lookup::app(platform, app).await?.record;
    let mut warnings = warnings(&ask);
    let wanted = validated(ask)?;
    let org = orgs::get(platform, &app.org).await?.id;
    let own = platform.clone();
    let placed = platform.run_detached(async move { place(&own, &app, org, &wanted).await });
    let (volume, shares_zone) = placed.await?;
    warnings.extend(shares_zone);
    Ok(Created { volume, warnings })
}

/// What is accepted and not acted on yet.
fn warnings(ask: &CreateVolume) -> Vec<String> {
    let unencrypted = (ask.encrypted != Some(false)).then_some(
        "encrypted: disks of volumes are not encrypted yet; the volume has `encrypted: false`",
    );
    let unsaved = (ask.auto_backup_enabled != Some(false))
        .then_some("auto_backup_enabled: no snapshots are taken yet; the volume has no backups");
    [unencrypted, unsaved].into_iter().flatten().map(str::to_owned).collect()
}

fn validated(ask: CreateVolume) -> Result<Wanted, Error> {
    let named = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.is_empty());
    if named(&ask.snapshot_id) {
        return Err(Error::unsupported(
            "snapshot_id",
            "snapshots of volumes are not supported yet",
        ));
    }
    if named(&ask.source_volume_id) {
        return Err(Error::unsupported(
            "source_volume_id",
            "forks of volumes are not supported yet",
        ));
    }
    let name = ask.name.parse();
    let name =
        name.map_err(|err: model::volume::BadName| Error::invalid("name", err.to_string()))?;
    // Zero counts as absent, as in all requests of Go clients.
    let size_gb = ask.size_gb.filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE_GB);
    check_size("size_gb", size_gb)?;
    check_retention(ask.snapshot_retention)?;
    let word = ask.fstype.unwrap_or_default();
    let fstype = FileSystem::parse(&word);
    let fstype = fstype.ok_or_else(|| Error::invalid("fstype", "must be ext4 or raw"))?;
    let memory_mb = match ask.compute {
        Some(guest) => config::size("compute.", None, Some(guest))?.memory_mb,
        None => 0,
    };
    let region = ask.region.filter(|region| !region.is_empty());
    Ok(Wanted {
        name,
        regions: Regions::parse("region", region.as_deref().unwrap_or("nearest"))?,
        size_gb,
        fstype,
        retention: ask
            .snapshot_retention
            .filter(|days| *days > 0)
            .unwrap_or(DEFAULT_RETENTION_DAYS),
        backups: ask.auto_backup_enabled != Some(false),
        memory_mb,
        unique_zone: ask.require_unique_zone != Some(false),
        app_wide: ask.unique_zone_app_wide == Some(true),
    })
}

/// Offers the volume to the hosts, best first, until one takes it. With it a warning, if it
/// shares its host against the preference of the request.
async fn place(
    platform: &Platform,
    app: &AppRecord,
    org: OrgId,
    wanted: &Wanted,
) -> Result<(Volume, Option<String>), Error> {
    let known = platform.request().map(|request| request.volume_id());
    if let Some(id) = known
        && let Some(stored) = record::get(platform, id).await?
    {
        // An earlier try with the same key has claimed it.
        let made = create_on(platform, org, id, &stored.record).await;
        return made.map(|volume| (volume, None)).map_err(|refused| refused.err);
    }
    let infos = hosts::infos(platform).await?;
    let mut candidates = candidates(&infos, wanted)?;
    let used = used_zones(platform, app.id, wanted).await?;
    // Hosts are in the order of their rank: it stays among those that are alike here.
    candidates.sort_by_key(|candidate| used.contains(&candidate.host));
    let mut refusal = None;
    for Candidate { host, region } in candidates {
        let own = infos.iter().find(|info| info.host == host).map(|info| info.region.clone());
        let record = VolumeRecord {
            app: app.id,
            name: wanted.name.clone(),
            host,
            region: region.or(own).unwrap_or_default(),
            size_gb: wanted.size_gb,
            fstype: wanted.fstype,
            snapshot_retention: wanted.retention,
            auto_backup_enabled: wanted.backups,
            claimed_ms: platform.clock().now_ms(),
            created: false,
            destroying: false,
        };
        let id = known.unwrap_or_else(|| VolumeId::from_random(platform.rng().wide_bits()));
        claim(platform, app, id, &record).await?;
        match create_on(platform, org, id, &record).await {
            Ok(volume) => {
                let shares = used.contains(&host).then(|| shared_zone(wanted, &volume));
                return Ok((volume, shares));
            }
            Err(Refused { err, elsewhere: true }) => refusal = Some(err),
            Err(Refused { err, .. }) => return Err(err),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::new(Kind::Unavailable, "the hosts became unreachable")))
}

fn candidates(infos: &[HostInfo], wanted: &Wanted) -> Result<Vec<Candidate>, Error> {
    let (regions, memory_mb) = (wanted.regions.clone(), wanted.memory_mb);
    let wanted = placement::Wanted { regions, memory_mb, launch: memory_mb > 0 };
    Ok(placement::candidates(infos, &wanted)?)
}

/// The hosts that the volume is not to share, if there are others.
async fn used_zones(
    platform: &Platform,
    app: AppId,
    wanted: &Wanted,
) -> Result<BTreeSet<HostId>, Error> {
    if !wanted.unique_zone && !wanted.app_wide {
        return Ok(BTreeSet::new());
    }
    let volumes = record::of_app(platform, app).await?.into_iter().map(|(_, record)| record);
    let same = volumes.filter(|record| wanted.app_wide || record.name == wanted.name);
    Ok(same.map(|record| record.host).collect())
}

fn shared_zone(wanted: &Wanted, volume: &Volume) -> String {
    let others = if wanted.app_wide { "volumes of the app" } else { "volumes of this name" };
    format!(
        "require_unique_zone: no other host of the region has room; zone {} has {others} already, \
         and they fail together",
        volume.zone
    )
}

/// Records that the volume is of this host, before the host is asked to make it.
async fn claim(
    platform: &Platform,
    app: &AppRecord,
    id: VolumeId,
    record: &VolumeRecord,
) -> Result<(), Error> {
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let stored = lookup::app(platform, app.name.as_str()).await?;
        if stored.record.id != app.id {
            return Err(Error::no_app(app.name.as_str()));
        }
        let key = records::volume_key(id);
        let txn = Txn {
            compare: vec![
                Compare::Absent(key.clone()),
                // Nothing is added to an app that is being deleted.
                Compare::Modified(stored.key, stored.revision),
            ],
            then: vec![
                Op::put(key, encode(record)),
                Op::put(records::app_volume_key(app.id, id), Bytes::new()),
            ],
            otherwise: vec![],
        };
        if platform.store().txn(txn).await?.succeeded {
            return Ok(());
        }
    }
    Err(Error::contention("the list of volumes"))
}

/// A create that failed, and whether another host may take the volume.
struct Refused {
    err: Error,
    elsewhere: bool,
}

impl From<Error> for Refused {
    fn from(err: Error) -> Self {
        Self { err, elsewhere: false }
    }
}

/// Asks the host of a claim to make the volume. The claim of one that certainly does not exist
/// is released; of others the reconciler finds out.
async fn create_on(
    platform: &Platform,
    org: OrgId,
    id: VolumeId,
    record: &VolumeRecord,
) -> Result<Volume, Refused> {
    let host = hosts::get(platform, record.host)?;
    let new = NewVolume {
        id,
        app: record.app,
        org,
        name: record.name.clone(),
        region: record.region.clone(),
        size_gb: record.size_gb,
        fstype: record.fstype,
        snapshot_retention: record.snapshot_retention,
        auto_backup_enabled: record.auto_backup_enabled,
    };
    let call = host.create_volume(platform.context(CHANGE_TIMEOUT), new);
    let err = match within(CHANGE_TIMEOUT, call).await {
        Ok(made) => {
            // The volume is there: the reconciler confirms it later, too.
            if let Err(err) = confirm(platform, id, &made).await {
                tracing::warn!(volume = %id, error = %err, "record a created volume");
            }
            return Ok(of_host(record.host, &made));
        }
        Err(err) => err,
    };
    let in_doubt = match &err {
        HostError::Internal(_) | HostError::DeadlineExceeded(_) | HostError::Busy(_) => true,
        HostError::Unavailable { may_have_run, .. } => *may_have_run,
        _ => false,
    };
    let elsewhere = match &err {
        HostError::NoCapacity(_) => true,
        HostError::Unavailable { .. } => !in_doubt,
        _ => false,
    };
    if !in_doubt && let Err(err) = release(platform, record.app, id).await {
        tracing::warn!(volume = %id, error = %err, "release the claim of a refused volume");
    }
    let err = match err {
        HostError::NoCapacity(why) => Error::new(Kind::NoCapacity, why)
            .hint("destroy volumes or machines, ask for a smaller volume, or name another region"),
        err => err.into(),
    };
    Err(Refused { err, elsewhere })
}

/// Records that the host has made the volume.
pub(crate) async fn confirm(
    platform: &Platform,
    id: VolumeId,
    made: &HostVolume,
) -> Result<(), Error> {
    let key = records::volume_key(id);
    let size_gb = made.volume.size_gb;
    let confirmed = change_record(platform, &key, "the volume's record", |record: VolumeRecord| {
        (!record.created).then_some(VolumeRecord { created: true, size_gb, ..record })
    });
    confirmed.await.map(drop)
}

/// Deletes the record of a volume that certainly does not exist.
pub(crate) async fn release(platform: &Platform, app: AppId, id: VolumeId) -> Result<(), Error> {
    let then =
        vec![Op::delete(records::volume_key(id)), Op::delete(records::app_volume_key(app, id))];
    platform.store().txn(Txn { then, ..Txn::default() }).await?;
    Ok(())
}
