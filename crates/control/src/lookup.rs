//! Names and ids of requests looked up: in the records in memory, or in the store.

use crate::cache::{Cached, Known, Ownership};
use crate::{Error, Platform};
use model::id::{AppName, MachineId, MachineName};
use serde::de::DeserializeOwned;
use store::records::{self, AppRecord, Listed, MachineRecord, NameRecord, Stored};

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

/// An app that is not being deleted, by its name.
pub(crate) async fn app(platform: &Platform, name: &str) -> Result<Stored<AppRecord>, Error> {
    let no_app = || Error::no_app(name);
    // Text that is no valid name cannot be the name of an app.
    let name: AppName = name.parse().map_err(|_| no_app())?;
    let found: Option<Stored<AppRecord>> = get(platform, &records::app_key(name.as_str())).await?;
    found.filter(|app| !app.record.deleting).ok_or_else(no_app)
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
