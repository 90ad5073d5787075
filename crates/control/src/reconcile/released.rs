//! Released machines: their records were deleted while some host could not be asked, or
//! before it had carried out their create. Each is destroyed where it still is. The
//! record of the release is kept until every host has answered that it does not have the machine.

use super::driver::{Outcome, Reconciler};
use crate::hosts::{READ_TIMEOUT, ask_all};
use crate::machines::{CLAIM_LIFETIME, destroy_unowned};
use crate::{Error, Platform, lookup};
use host_api::{Host, HostError, MachineFilter};
use model::id::{HostId, MachineId};
use model::life::State;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use store::records::{self, Listed, ReleasedRecord, Stored};
use store::{Change, Op, Txn};

pub(super) struct Released;

impl Reconciler for Released {
    const NAME: &'static str = "released machines";
    const PREFIX: &'static str = records::RELEASED;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let released: Listed<ReleasedRecord> = lookup::list(platform, records::RELEASED).await?;
        if released.records.is_empty() {
            return Ok(vec![]);
        }
        let (existing, all_answered) = existing_machines(platform).await;
        let is_due = |id: &str, record: &ReleasedRecord| {
            existing.contains(id) || (all_answered && is_old(platform, record))
        };
        let items = released.records.iter().filter_map(|of| {
            let id = of.key.strip_prefix(records::RELEASED)?;
            is_due(id, &of.record).then(|| id.to_owned())
        });
        Ok(items.collect())
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        Some((kv.key.strip_prefix(records::RELEASED)?.to_owned(), CLAIM_LIFETIME))
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let Ok(id) = item.parse::<MachineId>() else { return Ok(Outcome::Done) };
        let key = records::released_key(id);
        let released: Option<Stored<ReleasedRecord>> = records::get(platform.store(), &key).await?;
        let Some(released) = released else { return Ok(Outcome::Done) };
        let ask = |host: Arc<dyn Host>| {
            let context = platform.context(READ_TIMEOUT);
            async move { exists(host.machine(context, id).await) }
        };
        let answers = ask_all(platform, ask).await;
        let having: Vec<HostId> =
            answers.answered.iter().filter(|(_, has)| *has).map(|(host, _)| *host).collect();
        for host in &having {
            tracing::warn!(machine = %id, %host, "destroy a machine that was released");
            destroy_unowned(platform, *host, id, None).await?;
        }
        // A host that did not answer is asked again by a later list.
        if having.is_empty() && answers.failed.is_empty() && is_old(platform, &released.record) {
            let then = vec![Op::delete(key)];
            platform.store().txn(Txn { then, ..Txn::default() }).await?;
        }
        Ok(Outcome::Done)
    }
}

/// No create of the machine can be under way any more.
fn is_old(platform: &Platform, record: &ReleasedRecord) -> bool {
    let age = platform.clock().now_ms().saturating_sub(record.released_ms);
    u128::from(age) > CLAIM_LIFETIME.as_millis()
}

/// Whether a host has a machine that is not destroyed, by its answer.
fn exists(answer: Result<wire::machines::Machine, HostError>) -> Result<bool, HostError> {
    match answer {
        Ok(machine) => {
            let state = State::parse(&machine.state);
            Ok(!matches!(state, Some(State::Destroyed | State::Destroying)))
        }
        Err(HostError::NotFound(_) | HostError::NotMine { .. }) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Machines of the hosts that answer, and whether all of them do.
async fn existing_machines(platform: &Platform) -> (HashSet<String>, bool) {
    let filter = MachineFilter { summary: true, ..MachineFilter::default() };
    let ask = |host: Arc<dyn Host>| {
        let (filter, context) = (filter.clone(), platform.context(READ_TIMEOUT));
        async move { host.machines(context, filter).await }
    };
    let answers = ask_all(platform, ask).await;
    let machines = answers.answered.into_iter().flat_map(|(_, machines)| machines);
    (machines.map(|machine| machine.id).collect(), answers.failed.is_empty())
}
