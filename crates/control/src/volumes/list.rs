//! Reading volumes: one, those of an app, those of an organization.

use super::record::{self, Found};
use super::shown::{of_host, of_record};
use crate::hosts::{self, READ_TIMEOUT, within};
use crate::{Error, Kind, Platform, lookup, orgs};
use futures_util::future::join_all;
use host_api::{HostError, HostVolume, VolumeFilter};
use model::id::{AppId, HostId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use store::KeyRange;
use store::records::{self, AppRecord, Listed, VolumeRecord};
use wire::machines::{OrgVolume, OrgVolumes, Volume};

/// Most volumes of one page, and those of a page if no number is asked for.
const MAX_PAGE: usize = 1000;

/// What the hosts answer about volumes: `None` for a host that does not.
type Answers = BTreeMap<HostId, Option<BTreeMap<VolumeId, HostVolume>>>;

/// One volume. If its host cannot be reached, it is made from its record.
///
/// # Errors
/// There is no such volume.
pub async fn get(platform: &Platform, app: &str, volume: &str) -> Result<Volume, Error> {
    let Found { id, app, record } = record::find(platform, app, volume).await?;
    let host = hosts::get(platform, record.host)?;
    match within(READ_TIMEOUT, host.volume(platform.context(READ_TIMEOUT), id)).await {
        Ok(found) => Ok(of_host(record.host, &found)),
        Err(HostError::NotFound(_)) if record.created && !record.destroying => {
            Ok(of_record(id, &record, "lost"))
        }
        Err(HostError::NotFound(_)) => Err(record::no_volume(app.name.as_str(), volume)),
        Err(err) => {
            let err = Error::from(err);
            match err.kind {
                Kind::Unavailable | Kind::InDoubt => Ok(of_record(id, &record, "unreachable")),
                _ => Err(err),
            }
        }
    }
}

/// The volumes of an app, oldest first.
///
/// # Errors
/// There is no such app.
pub async fn list(platform: &Platform, app: &str) -> Result<Vec<Volume>, Error> {
    let app = lookup::app(platform, app).await?.record;
    let records = record::of_app(platform, app.id).await?;
    let filter = VolumeFilter { app: Some(app.id), org: None };
    let answers = ask(platform, &records, &filter).await;
    Ok(records.iter().filter_map(|(id, record)| shown(*id, record, &answers)).collect())
}

/// How many volumes each app has, or one app alone.
pub(crate) async fn count_by_app(
    platform: &Platform,
    only: Option<AppId>,
) -> Result<BTreeMap<AppId, u64>, Error> {
    let prefix = only.map_or_else(|| records::APP_VOLUMES.to_owned(), records::volumes_of);
    let listed = platform.store().range(KeyRange::prefix(&prefix), None, None).await?.entries;
    let app = |key: &str| key.strip_prefix(records::APP_VOLUMES)?.split('/').next()?.parse().ok();
    let mut counts = BTreeMap::new();
    for app in listed.iter().filter_map(|entry| app(&entry.key)) {
        *counts.entry(AppId(app)).or_default() += 1;
    }
    Ok(counts)
}

/// The volumes of an app as their hosts have them, with their hosts. Those of hosts that do not
/// answer are left out.
pub(super) async fn on_hosts(
    platform: &Platform,
    app: AppId,
) -> Result<Vec<(HostId, HostVolume)>, Error> {
    let records = record::of_app(platform, app).await?;
    let filter = VolumeFilter { app: Some(app), org: None };
    let answers = ask(platform, &records, &filter).await;
    let found = records.iter().filter(|(_, record)| !record.destroying);
    let found = found.filter_map(|(id, record)| {
        let volume = answers.get(&record.host)?.as_ref()?.get(id)?;
        Some((record.host, volume.clone()))
    });
    Ok(found.collect())
}

/// Asks the hosts of these volumes.
async fn ask(
    platform: &Platform,
    records: &[(VolumeId, VolumeRecord)],
    filter: &VolumeFilter,
) -> Answers {
    let owners: BTreeSet<HostId> = records.iter().map(|(_, record)| record.host).collect();
    let asked = owners.into_iter().map(|id| async move {
        let host = hosts::get(platform, id).ok();
        let answer = match host {
            Some(host) => {
                let call = host.volumes(platform.context(READ_TIMEOUT), filter.clone());
                within(READ_TIMEOUT, call).await
            }
            None => Err(HostError::unreachable("it is not known")),
        };
        if let Err(err) = &answer {
            tracing::warn!(host = id.0, error = %err, "list the volumes of a host");
        }
        let by_id = |volumes: Vec<HostVolume>| {
            volumes.into_iter().map(|found| (found.volume.id, found)).collect()
        };
        (id, answer.ok().map(by_id))
    });
    join_all(asked).await.into_iter().collect()
}

/// A volume of a list; `None` if it is gone, or was never made.
fn shown(id: VolumeId, record: &VolumeRecord, answers: &Answers) -> Option<Volume> {
    match answers.get(&record.host).and_then(Option::as_ref) {
        None => Some(of_record(id, record, "unreachable")),
        Some(volumes) => match volumes.get(&id) {
            Some(found) => Some(of_host(record.host, found)),
            None if record.created && !record.destroying => Some(of_record(id, record, "lost")),
            None => None,
        },
    }
}

/// Which volumes of an organization.
#[derive(Clone, Debug, Default)]
pub struct OrgFilter {
    /// Only in this region.
    pub region: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most volumes of the page.
    pub limit: Option<usize>,
}

/// One page of an organization's volumes, in order of their ids.
///
/// # Errors
/// There is no such organization, or the filter is not valid.
pub async fn list_org(
    platform: &Platform,
    org: &str,
    filter: OrgFilter,
) -> Result<OrgVolumes, Error> {
    let limit = match filter.limit {
        None => MAX_PAGE,
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => limit,
        Some(_) => {
            return Err(Error::invalid("limit", format!("must be from 1 to {MAX_PAGE}")));
        }
    };
    let after: Option<VolumeId> = match filter.cursor.as_deref().map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => {
            return Err(Error::invalid("cursor", "must be `next_cursor` of an earlier page"));
        }
    };
    let org = orgs::get(platform, org).await?;
    let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let apps = apps.records.into_iter().map(|stored| stored.record);
    let apps: Vec<AppRecord> = apps.filter(|app| app.org == org.slug && !app.deleting).collect();
    let mut found = Vec::new();
    for app in &apps {
        let records = record::of_app(platform, app.id).await?;
        found.extend(records.into_iter().map(|(id, record)| (id, record, app)));
    }
    let records: Vec<_> = found.iter().map(|(id, record, _)| (*id, record.clone())).collect();
    let answers = ask(platform, &records, &VolumeFilter { app: None, org: Some(org.id) }).await;
    let mut volumes: Vec<(VolumeId, OrgVolume)> = found
        .into_iter()
        .filter(|(id, _, _)| after.is_none_or(|after| *id > after))
        .filter(|(_, record, _)| filter.region.as_ref().is_none_or(|only| *only == record.region))
        .filter_map(|(id, record, app)| {
            let volume = shown(id, &record, &answers)?;
            let (app_id, app_name) = (app.id.to_string(), app.name.to_string());
            Some((id, OrgVolume { app_id, app_name, volume }))
        })
        .collect();
    volumes.sort_by_key(|(id, _)| *id);
    let more = volumes.len() > limit;
    volumes.truncate(limit);
    let last = volumes.last().map(|(id, _)| id.to_string()).unwrap_or_default();
    let known = hosts::last_regions(platform);
    let failed = answers.iter().filter(|(_, answer)| answer.is_none());
    let regions =
        failed.map(|(host, _)| known.get(host).cloned().unwrap_or_else(|| "unknown".to_owned()));
    Ok(OrgVolumes {
        next_cursor: if more { last.clone() } else { String::new() },
        last_volume_id: last,
        error_regions: regions.collect::<BTreeSet<_>>().into_iter().collect(),
        volumes: volumes.into_iter().map(|(_, volume)| volume).collect(),
    })
}
