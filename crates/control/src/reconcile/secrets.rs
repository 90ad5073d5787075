//! Secrets on the hosts: a host that could not be reached when the secrets of an app were
//! changed is sent them later, so that starts without the control plane take the newest.

use super::driver::{Outcome, Reconciler};
use crate::secrets::deliver_to_owners;
use crate::{Error, Platform};
use model::id::AppId;
use std::collections::BTreeSet;
use std::time::Duration;
use store::records::SECRETS;
use store::{Change, KeyRange};

pub(super) struct SecretsOnHosts;

/// The app of a record.
fn app_of(key: &str) -> Option<AppId> {
    key.strip_prefix(SECRETS)?.parse().ok().map(AppId)
}

impl Reconciler for SecretsOnHosts {
    const NAME: &'static str = "secrets on hosts";
    const PREFIX: &'static str = SECRETS;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let stored = platform.store().range(KeyRange::prefix(SECRETS), None, None).await?;
        let apps: BTreeSet<AppId> =
            stored.entries.iter().filter_map(|entry| app_of(&entry.key)).collect();
        platform.delivered().retain(&apps);
        Ok(apps.iter().map(ToString::to_string).collect())
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        // The change itself sends them; this is for when that fails.
        Some((app_of(&kv.key)?.to_string(), Duration::from_secs(5)))
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let Ok(app) = item.parse().map(AppId) else { return Ok(Outcome::Done) };
        deliver_to_owners(platform, app).await.map(|()| Outcome::Done)
    }
}
