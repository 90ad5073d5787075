//! Apps that are being deleted: their machines are destroyed, then they are forgotten.

use super::driver::{Outcome, Reconciler};
use crate::apps::{Progress, finish_deletion};
use crate::{Error, Platform, lookup};
use std::time::Duration;
use store::Change;
use store::records::{self, AppRecord, Listed, Stored};

pub(super) struct Deletions;

impl Reconciler for Deletions {
    const NAME: &'static str = "deletions";
    const PREFIX: &'static str = records::APPS;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
        let deleting = apps.records.into_iter().filter(|app| app.record.deleting);
        Ok(deleting.map(|app| app.record.name.to_string()).collect())
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        let app: AppRecord = records::decode(&kv.key, &kv.value).ok()?;
        // The request that marked it is at it already; this is for when it fails.
        app.deleting.then(|| (app.name.to_string(), Duration::from_secs(10)))
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let app: Option<Stored<AppRecord>> =
            records::get(platform.store(), &records::app_key(item)).await?;
        let Some(app) = app.filter(|app| app.record.deleting) else { return Ok(Outcome::Done) };
        Ok(match finish_deletion(platform, &app.record).await? {
            Progress::Done => Outcome::Done,
            Progress::Waiting(why) => {
                tracing::debug!(app = item, why, "a deletion waits");
                Outcome::Waiting
            }
        })
    }
}
