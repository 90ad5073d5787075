//! Names and ids of requests looked up: in the records in memory, or in the store.

use crate::cache::{Cached, Known, Ownership};
use crate::error::shortened;
use crate::{Error, Platform};
use model::id::{AppId, AppName, MachineId, MachineName, OrgSlug};
use serde::de::DeserializeOwned;
use store::records::{self, AppRecord, Listed, MachineRecord, NameRecord, OrgRecord, Stored};

/// The record of a key, from memory if it is there.
pub(crate) async fn get<T: Cached>(
    platform: &Platform,
    key: &str,
) -> Result<Option<Stored<T>>, Error> {
    match platform.cache().get(key).await {
        Known::Record(stored) => Ok(Some(stored)),
        Known::Absent => Ok(None),
        Known::Unknown => Ok(records::get(platform.store(), key).await?),
    }
}

/// All records below a prefix, from the store. Those that cannot be read are passed over;
/// each is logged once.
pub(crate) async fn list<T: DeserializeOwned>(
    platform: &Platform,
    prefix: &str,
) -> Result<Listed<T>, Error> {
    let listed = records::list_readable(platform.store(), prefix).await?;
    for (key, err) in &listed.unreadable {
        if platform.unreadable().is_new(key) {
            tracing::error!(key, error = %rt::chain(err), "a record cannot be read; it is left alone");
        }
    }
    Ok(listed)
}

/// The records below a prefix that are wanted, from memory where that is possible. Those that
/// cannot be read are passed over, as by [`list`].
pub(crate) async fn below<T: Cached>(
    platform: &Platform,
    prefix: &str,
    wanted: impl Fn(&T) -> bool,
) -> Result<Vec<Stored<T>>, Error> {
    if let Some(found) = platform.cache().below(prefix, &wanted).await {
        return Ok(found);
    }
    let mut listed = list(platform, prefix).await?.records;
    listed.retain(|stored| wanted(&stored.record));
    Ok(listed)
}

/// An app that is not being deleted, by its name.
pub(crate) async fn app(platform: &Platform, name: &str) -> Result<Stored<AppRecord>, Error> {
    let no_app = || Error::no_app(name);
    // Text that is no valid name cannot be the name of an app.
    let name: AppName = name.parse().map_err(|_| no_app())?;
    let found: Option<Stored<AppRecord>> = get(platform, &records::app_key(name.as_str())).await?;
    found.filter(|app| !app.record.deleting).ok_or_else(no_app)
}

/// The error of an organization that is not there, or not for the caller.
pub(crate) fn no_org(slug: &str) -> Error {
    let slug = shortened(slug, 80);
    Error::not_found(format!("Could not find Organization \"{slug}\""))
        .hint("`updraft orgs list` shows the organizations that the token may read")
}

/// An organization that is not being deleted, by its slug.
pub(crate) async fn org(platform: &Platform, slug: &str) -> Result<OrgRecord, Error> {
    let parsed: OrgSlug = slug.parse().map_err(|_| no_org(slug))?;
    let found: Option<Stored<OrgRecord>> =
        get(platform, &records::org_key(parsed.as_str())).await?;
    let found = found.map(|org| org.record).filter(|org| !org.deleting);
    found.ok_or_else(|| no_org(slug))
}

/// A machine, and whom it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) record: Ownership,
}

/// A machine by its id or its name. An id wins over a name that looks like one.
pub(crate) async fn machine(
    platform: &Platform,
    app_name: &str,
    machine: &str,
) -> Result<Machine, Error> {
    let app = app(platform, app_name).await?.record;
    let no_machine = || Error::no_machine(app.name.as_str(), machine);
    if let Ok(id) = machine.parse::<MachineId>()
        && let Some(found) = by_id(platform, id).await?
        && found.record.app == app.id
    {
        return Ok(found);
    }
    let name: MachineName = machine.parse().map_err(|_| no_machine())?;
    let key = records::name_key(app.id, name.as_str());
    let named: Option<Stored<NameRecord>> = get(platform, &key).await?;
    let id = named.ok_or_else(no_machine)?.record.id;
    by_id(platform, id).await?.ok_or_else(no_machine)
}

/// A machine by its id, of whatever app.
pub(crate) async fn by_id(platform: &Platform, id: MachineId) -> Result<Option<Machine>, Error> {
    let found: Option<Stored<Ownership>> = get(platform, &records::machine_key(id)).await?;
    Ok(found.map(|stored| Machine { id, record: stored.record }))
}

/// The app of a machine, if both are there.
pub(crate) async fn app_of(platform: &Platform, id: MachineId) -> Result<Option<AppRecord>, Error> {
    match by_id(platform, id).await? {
        Some(machine) => app_by_id(platform, machine.record.app).await,
        None => Ok(None),
    }
}

/// An app by its number.
pub(crate) async fn app_by_id(platform: &Platform, id: AppId) -> Result<Option<AppRecord>, Error> {
    match platform.cache().app_by_id(id).await {
        Known::Record(app) => Ok(Some(app.record)),
        Known::Absent => Ok(None),
        Known::Unknown => {
            let apps: Listed<AppRecord> = list(platform, records::APPS).await?;
            let mut records = apps.records.into_iter().map(|stored| stored.record);
            Ok(records.find(|app| app.id == id))
        }
    }
}

/// The same, always from the store: for those to whom memory may be too old.
pub(crate) async fn by_id_in_store(
    platform: &Platform,
    id: MachineId,
) -> Result<Option<Machine>, Error> {
    let found: Option<Stored<Ownership>> =
        records::get(platform.store(), &records::machine_key(id)).await?;
    Ok(found.map(|stored| Machine { id, record: stored.record }))
}

/// The whole record of a machine, with version and config, from the store.
pub(crate) async fn whole_record(
    platform: &Platform,
    id: MachineId,
) -> Result<Option<MachineRecord>, Error> {
    let found: Option<Stored<MachineRecord>> =
        records::get(platform.store(), &records::machine_key(id)).await?;
    Ok(found.map(|stored| stored.record))
}
