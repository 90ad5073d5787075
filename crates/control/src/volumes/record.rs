//! Volumes in the store.

use crate::error::shortened;
use crate::{Error, Platform, lookup};
use model::id::{AppId, VolumeId};
use store::KeyRange;
use store::records::{self, AppRecord, Stored, VolumeRecord};

/// The error of a volume that is not there, or not of the app.
pub(super) fn no_volume(app: &str, volume: &str) -> Error {
    let volume = shortened(volume, 80);
    Error::not_found(format!("volume not found: app {app:?} has no volume {volume:?}"))
        .hint(format!("`updraft volumes list -a {app}` shows the volumes of the app"))
}

/// A volume of an app.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: VolumeId,
    pub(super) app: AppRecord,
    pub(super) record: VolumeRecord,
}

/// A volume of an app, by its id.
pub(super) async fn find(platform: &Platform, app: &str, volume: &str) -> Result<Found, Error> {
    let app = lookup::app(platform, app).await?.record;
    let none = || no_volume(app.name.as_str(), volume);
    let id: VolumeId = volume.parse().map_err(|_| none())?;
    let stored = get(platform, id).await?.filter(|stored| stored.record.app == app.id);
    let record = stored.ok_or_else(none)?.record;
    Ok(Found { id, app, record })
}

/// The record of a volume.
pub(super) async fn get(
    platform: &Platform,
    id: VolumeId,
) -> Result<Option<Stored<VolumeRecord>>, Error> {
    Ok(records::get(platform.store(), &records::volume_key(id)).await?)
}

/// The app of a volume, if both are there.
pub(crate) async fn app_of(platform: &Platform, id: VolumeId) -> Result<Option<AppRecord>, Error> {
    match get(platform, id).await? {
        Some(stored) => lookup::app_by_id(platform, stored.record.app).await,
        None => Ok(None),
    }
}

/// The ids of an app's volumes.
pub(super) async fn ids_of(platform: &Platform, app: AppId) -> Result<Vec<VolumeId>, Error> {
    let prefix = records::volumes_of(app);
    let listed = platform.store().range(KeyRange::prefix(&prefix), None, None).await?.entries;
    let id = |entry: &store::KeyValue| entry.key.strip_prefix(&prefix)?.parse().ok();
    Ok(listed.iter().filter_map(id).collect())
}

/// The volumes of an app, in order of their claims.
pub(super) async fn of_app(
    platform: &Platform,
    app: AppId,
) -> Result<Vec<(VolumeId, VolumeRecord)>, Error> {
    let mut found = Vec::new();
    for id in ids_of(platform, app).await? {
        if let Some(stored) = get(platform, id).await? {
            found.push((id, stored.record));
        }
    }
    found.sort_by_key(|(id, record)| (record.claimed_ms, *id));
    Ok(found)
}
