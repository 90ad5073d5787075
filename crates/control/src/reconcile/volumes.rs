//! Volumes whose create or destruction broke off: a claim is confirmed if its host has the volume
//! and released if not, and what is to be destroyed is destroyed.

use super::driver::{Outcome, Reconciler};
use crate::hosts::{READ_TIMEOUT, within};
use crate::machines::CLAIM_LIFETIME;
use crate::{Error, Platform, hosts, lookup, volumes};
use host_api::HostError;
use model::id::VolumeId;
use model::volume::State;
use std::time::Duration;
use store::Change;
use store::records::{self, Listed, Stored, VolumeRecord};

/// Time that the call which marked a volume has to destroy it.
const DESTROYED_WITHIN: Duration = Duration::from_secs(90);

pub(super) struct UnfinishedVolumes;

fn is_unfinished(record: &VolumeRecord) -> bool {
    !record.created || record.destroying
}

impl Reconciler for UnfinishedVolumes {
    const NAME: &'static str = "unfinished volumes";
    const PREFIX: &'static str = records::VOLUMES;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let all: Listed<VolumeRecord> = lookup::list(platform, records::VOLUMES).await?;
        let unfinished = all.records.into_iter().filter(|stored| is_unfinished(&stored.record));
        let id = |stored: Stored<VolumeRecord>| {
            stored.key.strip_prefix(records::VOLUMES).map(str::to_owned)
        };
        Ok(unfinished.filter_map(id).collect())
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        let record: VolumeRecord = records::decode(&kv.key, &kv.value).ok()?;
        let after = if record.destroying { DESTROYED_WITHIN } else { CLAIM_LIFETIME };
        let id = kv.key.strip_prefix(records::VOLUMES)?;
        is_unfinished(&record).then(|| (id.to_owned(), after))
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let Ok(id) = item.parse::<VolumeId>() else { return Ok(Outcome::Done) };
        let stored: Option<Stored<VolumeRecord>> =
            records::get(platform.store(), &records::volume_key(id)).await?;
        let Some(record) = stored.map(|stored| stored.record).filter(is_unfinished) else {
            return Ok(Outcome::Done);
        };
        if record.destroying {
            return volumes::finish_destroy(platform, id, &record).await.map(|_| Outcome::Done);
        }
        let age = platform.clock().now_ms().saturating_sub(record.claimed_ms);
        let age = Duration::from_millis(age);
        if age <= CLAIM_LIFETIME {
            // The create may still be on its way.
            return Ok(Outcome::Later(CLAIM_LIFETIME - age + Duration::from_secs(1)));
        }
        let host = hosts::get(platform, record.host)?;
        match within(READ_TIMEOUT, host.volume(platform.context(READ_TIMEOUT), id)).await {
            Ok(made) if made.state == State::Created => {
                volumes::confirm(platform, id, &made).await.map(|()| Outcome::Done)
            }
            Ok(_) => Ok(Outcome::Waiting),
            Err(HostError::NotFound(_)) => {
                volumes::release(platform, record.app, id).await.map(|()| Outcome::Done)
            }
            Err(err) => Err(err.into()),
        }
    }
}
