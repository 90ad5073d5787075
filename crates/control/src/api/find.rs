//! From the words of a path to apps and machines.

use super::{Api, ApiError};
use crate::ports::Host;
use crate::records::{self, AppRecord, NameRecord, OwnedRecord, Stored};
use axum::http::StatusCode;
use model::id::{AppName, HostId, MachineId, MachineName};
use std::sync::Arc;

/// A machine of an app, and the host to ask about it.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) app: String,
    pub(super) name: String,
    pub(super) host: Arc<dyn Host>,
}

impl Api {
    /// An app that is not being deleted.
    pub(super) async fn app(&self, name: &str) -> Result<Stored<AppRecord>, ApiError> {
        let no_app = || ApiError::no_app(name);
        // Whatever is not a name cannot be the name of an app.
        let name: AppName = name.parse().map_err(|_| no_app())?;
        let found: Option<Stored<AppRecord>> =
            records::get(self.store(), &records::app_key(name.as_str())).await?;
        found.filter(|app| !app.record.deleting).ok_or_else(no_app)
    }

    /// A machine by its id or its name (D30). An id wins over a name that
    /// looks like one.
    pub(super) async fn find(&self, app: &str, machine: &str) -> Result<Found, ApiError> {
        if let Ok(id) = machine.parse::<MachineId>()
            && let Some(owned) = self.owned(app, id).await?
        {
            return Ok(Found { host: self.host(id)?, ..owned });
        }
        let app = self.app(app).await?.record.name;
        let no_machine = || ApiError::no_machine(&app, machine);
        let name: MachineName = machine.parse().map_err(|_| no_machine())?;
        let key = records::name_key(&app, name.as_str());
        let named: Option<Stored<NameRecord>> = records::get(self.store(), &key).await?;
        let id = named.and_then(|named| named.record.id.parse::<MachineId>().ok());
        let id = id.ok_or_else(no_machine)?;
        let host = self.host(id)?;
        Ok(Found { id: id.to_string(), app, name: name.to_string(), host })
    }

    async fn owned(&self, app: &str, id: MachineId) -> Result<Option<Found>, ApiError> {
        let key = records::machine_key(&id.to_string());
        let owned: Option<Stored<OwnedRecord>> = records::get(self.store(), &key).await?;
        let Some(owned) = owned.filter(|owned| owned.record.app == app) else { return Ok(None) };
        let OwnedRecord { app, name, .. } = owned.record;
        Ok(Some(Found { id: id.to_string(), app, name, host: self.host(id)? }))
    }

    /// The host that owns a machine.
    pub(crate) fn host(&self, id: MachineId) -> Result<Arc<dyn Host>, ApiError> {
        let HostId(number) = id.host();
        self.world.hosts.get(id.host()).ok_or_else(|| {
            let why = format!("host {number}, which owns machine {id}, cannot be reached");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })
    }
}
