//! Names and ids of requests resolved to records, and calls to a machine's owner.

use crate::hosts::{self, within};
use crate::{Error, Platform};
use host_api::{CallContext, Host, HostError};
use model::id::{AppName, MachineId, MachineName};
use std::sync::Arc;
use std::time::Duration;
use store::records::{self, AppRecord, MachineRecord, NameRecord, Stored};

/// An app that is not being deleted, by its name.
pub(crate) async fn app(platform: &Platform, name: &str) -> Result<Stored<AppRecord>, Error> {
    let no_app = || Error::no_app(name);
    // Text that is no valid name cannot be the name of an app.
    let name: AppName = name.parse().map_err(|_| no_app())?;
    let found: Option<Stored<AppRecord>> =
        records::get(platform.store(), &records::app_key(name.as_str())).await?;
    found.filter(|app| !app.record.deleting).ok_or_else(no_app)
}

/// A machine with its record.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) record: MachineRecord,
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
    let named: Option<Stored<NameRecord>> = records::get(platform.store(), &key).await?;
    let id = named.ok_or_else(no_machine)?.record.id;
    by_id(platform, id).await?.ok_or_else(no_machine)
}

/// A machine by its id, of whatever app.
pub(crate) async fn by_id(platform: &Platform, id: MachineId) -> Result<Option<Machine>, Error> {
    let record: Option<Stored<MachineRecord>> =
        records::get(platform.store(), &records::machine_key(id)).await?;
    Ok(record.map(|stored| Machine { id, record: stored.record }))
}

impl Machine {
    /// Calls the host that owns the machine, within `time`. If the ownership has
    /// changed since the record was read, the record is read again, once.
    pub(crate) async fn call<T, F: Future<Output = Result<T, HostError>>>(
        &self,
        platform: &Platform,
        time: Duration,
        call: impl Fn(Arc<dyn Host>, CallContext, MachineId) -> F,
    ) -> Result<T, Error> {
        let attempt = async |owner: &Machine| {
            let host = hosts::get(platform, owner.record.owner)?;
            let context = platform.context(time).at(owner.record.epoch);
            Ok::<_, Error>(within(time, call(host, context, owner.id)).await)
        };
        let first = attempt(self).await?;
        let Err(err) = first else { return first.map_err(Error::from) };
        if !err.is_about_ownership() {
            return Err(err.into());
        }
        match by_id(platform, self.id).await? {
            Some(now) if now.record.epoch != self.record.epoch => Ok(attempt(&now).await??),
            _ => Err(err.into()),
        }
    }
}
