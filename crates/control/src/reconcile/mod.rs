//! Reconcilers: tasks that compare what is recorded with what the hosts have, and
//! finish what a crash, a lost answer or an absent host left half done. One file
//! per reconciler; [`driver`] runs each: woken by the store's watch and by a slow
//! resync, every item with a backoff of its own.

mod claims;
mod compaction;
mod deletions;
mod driver;
mod expired_tokens;
mod former_owners;
mod org_deletions;
mod released;
mod requests;
mod secrets;
mod volumes;

use crate::Platform;
use claims::Claims;
use deletions::Deletions;
use driver::Reconciler;
use expired_tokens::ExpiredTokens;
use former_owners::FormerOwners;
use org_deletions::OrgDeletions;
use released::Released;
use secrets::SecretsOnHosts;
use volumes::UnfinishedVolumes;

/// Starts all reconcilers; they end with the platform's tasks.
pub fn start(platform: &Platform) {
    driver::start(platform, Claims);
    driver::start(platform, Deletions);
    driver::start(platform, FormerOwners);
    driver::start(platform, Released);
    driver::start(platform, SecretsOnHosts);
    driver::start(platform, UnfinishedVolumes);
    driver::start(platform, OrgDeletions);
    driver::start(platform, ExpiredTokens);
    compaction::start(platform);
    requests::start(platform);
}

/// One pass of every reconciler over everything, at once. What fails is logged.
pub async fn pass(platform: &Platform) {
    pass_of(platform, &Claims).await;
    pass_of(platform, &Deletions).await;
    pass_of(platform, &FormerOwners).await;
    pass_of(platform, &Released).await;
    requests::pass(platform).await;
    pass_of(platform, &SecretsOnHosts).await;
    pass_of(platform, &UnfinishedVolumes).await;
    pass_of(platform, &OrgDeletions).await;
    pass_of(platform, &ExpiredTokens).await;
}

async fn pass_of<R: Reconciler>(platform: &Platform, reconciler: &R) {
    match reconciler.list(platform).await {
        Ok(items) => {
            for item in items {
                if let Err(err) = reconciler.reconcile(platform, &item).await {
                    tracing::warn!(reconciler = R::NAME, item, error = %err, "reconcile");
                }
            }
        }
        Err(err) => tracing::warn!(reconciler = R::NAME, error = %err, "list what to reconcile"),
    }
}
