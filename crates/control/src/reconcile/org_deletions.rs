//! Organizations that are being deleted: what a crash or a failure left half done is finished.

use super::driver::{Outcome, Reconciler};
use crate::{Error, Kind, Platform, lookup, orgs};
use std::time::Duration;
use store::Change;
use store::records::{self, Listed, OrgRecord};

pub(super) struct OrgDeletions;

impl Reconciler for OrgDeletions {
    const NAME: &'static str = "deletions of organizations";
    const PREFIX: &'static str = records::ORGS;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let orgs: Listed<OrgRecord> = lookup::list(platform, records::ORGS).await?;
        let deleting = orgs.records.into_iter().filter(|org| org.record.deleting);
        Ok(deleting.map(|org| org.record.slug).collect())
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        let org: OrgRecord = records::decode(&kv.key, &kv.value).ok()?;
        // The request that marked it is at it already; this is for when it fails.
        org.deleting.then(|| (org.slug, Duration::from_secs(10)))
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        match orgs::finish_deletion(platform, item).await {
            // It has apps, and stays.
            Err(err) if err.kind == Kind::Conflict => Ok(Outcome::Waiting),
            done => done.map(|()| Outcome::Done),
        }
    }
}
