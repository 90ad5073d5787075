//! Hosts that still have a machine that belongs to another host by now: they were
//! away when its ownership moved. Each is sent the epoch, and gives the machine up.

use super::driver::{Outcome, Reconciler};
use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT, ask_all, within};
use crate::{Error, Platform, hosts, lookup};
use host_api::{ChangeMetadata, Host, HostError, MachineFilter};
use model::id::{Epoch, HostId, MachineId};
use model::life::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store::Change;
use store::records::{self, Listed, MachineRecord};

pub(super) struct FormerOwners;

impl Reconciler for FormerOwners {
    const NAME: &'static str = "former owners";
    const PREFIX: &'static str = records::MACHINES;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let had = machines_by_host(platform).await;
        // Records last: a machine that has moved meanwhile is looked at once more.
        let listed: Listed<MachineRecord> = lookup::list(platform, records::MACHINES).await?;
        let owners: BTreeMap<&str, HostId> = listed
            .records
            .iter()
            .filter_map(|stored| Some((stored.key.strip_prefix(records::MACHINES)?, stored)))
            .map(|(id, stored)| (id, stored.record.owner))
            .collect();
        let is_former = |host: HostId, id: &str| owners.get(id).is_some_and(|owner| *owner != host);
        let elsewhere: BTreeSet<String> =
            had.into_iter().filter(|(host, id)| is_former(*host, id)).map(|(_, id)| id).collect();
        Ok(elsewhere.into_iter().collect())
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        let record: MachineRecord = records::decode(&kv.key, &kv.value).ok()?;
        let has_moved = record.epoch > Epoch(1);
        has_moved.then(|| (kv.key[records::MACHINES.len()..].to_owned(), Duration::ZERO))
    }

    /// A host that does not answer is found by a later list, once it does.
    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let Ok(id) = item.parse::<MachineId>() else { return Ok(Outcome::Done) };
        let Some(found) = lookup::by_id_in_store(platform, id).await? else {
            return Ok(Outcome::Done);
        };
        let context = platform.context(READ_TIMEOUT);
        let ask = |host: Arc<dyn Host>| {
            let context = context.clone();
            async move { found_on(host.machine(context, id).await) }
        };
        let had = ask_all(platform, ask).await.answered;
        for (host, has) in had {
            if has && host != found.record.owner {
                give_up(platform, host, id, found.record.epoch).await?;
            }
        }
        Ok(Outcome::Done)
    }
}

/// Whether a host has a machine, by its answer.
fn found_on(answer: Result<wire::machines::Machine, HostError>) -> Result<bool, HostError> {
    match answer {
        Ok(machine) => Ok(machine.state != State::Destroyed.as_str()),
        Err(HostError::NotFound(_) | HostError::NotMine { .. }) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Every change of a machine at a newer epoch makes its host give it up. This one
/// would change nothing otherwise.
async fn give_up(
    platform: &Platform,
    host: HostId,
    id: MachineId,
    epoch: Epoch,
) -> Result<(), Error> {
    tracing::info!(machine = %id, %host, %epoch, "a former owner gives the machine up");
    let context = platform.context(CHANGE_TIMEOUT).at(epoch);
    let nothing = ChangeMetadata::Merge(BTreeMap::new());
    let host = hosts::get(platform, host)?;
    let answer = host.change_metadata(context, id, nothing, None);
    match within(CHANGE_TIMEOUT, answer).await {
        Ok(()) => Ok(()),
        // The machine may have come back to that host with a still newer epoch.
        Err(err) if err.is_about_ownership() => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// Machines that hosts have, of those that answer.
async fn machines_by_host(platform: &Platform) -> Vec<(HostId, String)> {
    let filter = MachineFilter { summary: true, ..MachineFilter::default() };
    let ask = |host: Arc<dyn Host>| {
        let (filter, context) = (filter.clone(), platform.context(READ_TIMEOUT));
        async move { host.machines(context, filter).await }
    };
    let answers = ask_all(platform, ask).await.answered.into_iter();
    answers
        .flat_map(|(host, machines)| machines.into_iter().map(move |machine| (host, machine.id)))
        .collect()
}
