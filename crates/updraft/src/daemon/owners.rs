//! Ids of apps by their names, from the global store: what records of the first
//! version, which knew apps by name only, are completed with.

use async_trait::async_trait;
use model::id::{AppId, AppName, OrgId, OrgSlug};
use std::sync::Arc;
use store::Store;
use store::records::{self, AppRecord, OrgRecord, Stored};
use worker::ports::{OwnerLookup, PortError};

pub(super) struct StoreOwners(pub(super) Arc<dyn Store>);

#[async_trait]
impl OwnerLookup for StoreOwners {
    async fn owner(
        &self,
        app: &AppName,
        _org: &OrgSlug,
    ) -> Result<Option<(AppId, OrgId)>, PortError> {
        let failed = |err| PortError::new(format!("look for the app {app}"), err);
        let key = records::app_key(app.as_str());
        let found: Option<Stored<AppRecord>> =
            records::get(&*self.0, &key).await.map_err(failed)?;
        let Some(Stored { record, .. }) = found else { return Ok(None) };
        let key = records::org_key(&record.org);
        let org: Option<Stored<OrgRecord>> = records::get(&*self.0, &key).await.map_err(failed)?;
        Ok(org.map(|org| (record.id, org.record.id)))
    }
}
