//! Releases as clients see them.

use super::keep::MAX_KEPT;
use crate::{Error, Platform, lookup};
use model::id::{AppId, ReleaseId};
use std::collections::{BTreeMap, HashMap};
use store::records::{
    self, AppRecord, AppReleasesRecord, ReleaseContentRecord, ReleaseRecord, Stored, decode,
};
use store::{KeyRange, Op, Txn};

/// Records that one transaction reads; a store need not take more than 128.
const MAX_READS: usize = 100;

/// The releases of an app, newest first, at most `limit` of them.
///
/// # Errors
/// There is no such app, or the limit is 0.
pub async fn list(
    platform: &Platform,
    app: &str,
    limit: Option<usize>,
) -> Result<Vec<ReleaseRecord>, Error> {
    if limit == Some(0) {
        return Err(Error::invalid("limit", "must be at least 1"));
    }
    let app = lookup::app(platform, app).await?.record;
    let releases = of_app(platform, app.id).await?.releases;
    Ok(releases.into_iter().rev().take(limit.unwrap_or(MAX_KEPT)).collect())
}

/// The newest release of an app that is complete, if there is one.
///
/// # Errors
/// There is no such app.
pub async fn current(platform: &Platform, app: &str) -> Result<Option<ReleaseRecord>, Error> {
    let app = lookup::app(platform, app).await?.record;
    Ok(of_app(platform, app.id).await?.newest_complete().cloned())
}

/// When the current release of each of these apps was made, by the app's name, in milliseconds since
/// the epoch.
///
/// # Errors
/// The store failed.
pub(crate) async fn all_current(
    platform: &Platform,
    apps: &[AppRecord],
) -> Result<BTreeMap<String, u64>, Error> {
    let ids: Vec<AppId> = apps.iter().map(|app| app.id).collect();
    let releases = of_apps(platform, &ids).await?;
    let current = |app: &AppRecord| {
        let release = releases.get(&app.id)?.newest_complete()?;
        Some((app.name.to_string(), release.created_ms))
    };
    Ok(apps.iter().filter_map(current).collect())
}

/// The releases of an app that are kept.
pub(crate) async fn of_app(platform: &Platform, app: AppId) -> Result<AppReleasesRecord, Error> {
    let key = records::app_releases_key(app);
    let stored: Option<Stored<AppReleasesRecord>> = records::get(platform.store(), &key).await?;
    Ok(stored.map(|stored| stored.record).unwrap_or_default())
}

/// The same of several apps, in few reads of the store. Apps without releases are left out.
pub(crate) async fn of_apps(
    platform: &Platform,
    apps: &[AppId],
) -> Result<HashMap<AppId, AppReleasesRecord>, Error> {
    let mut found = HashMap::new();
    for part in apps.chunks(MAX_READS) {
        let gets = part.iter().map(|app| Op::Get(KeyRange::key(records::app_releases_key(*app))));
        let txn = Txn { then: gets.collect(), ..Txn::default() };
        let gets = platform.store().txn(txn).await?.gets;
        for (app, stored) in part.iter().zip(gets) {
            if let Some(stored) = stored.first() {
                found.insert(*app, decode(&stored.key, &stored.value)?);
            }
        }
    }
    Ok(found)
}

/// What a release deploys; `None` if it has been removed meanwhile.
pub(crate) async fn content(
    platform: &Platform,
    id: ReleaseId,
) -> Result<Option<ReleaseContentRecord>, Error> {
    let key = records::release_key(id);
    let stored: Option<Stored<ReleaseContentRecord>> = records::get(platform.store(), &key).await?;
    Ok(stored.map(|stored| stored.record))
}
