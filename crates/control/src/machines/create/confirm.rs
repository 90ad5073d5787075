//! Confirming creates: a claim becomes the record of a machine that exists.
//!
//! A create is answered once its claim and its host's record are durable. The
//! confirmation follows after the answer, together with those of other creates, so
//! that creates in a row do not wait for it. Until it is written, the claims'
//! reconciler would finish the create.

use super::confirmations::{Confirmation, Queued};
use crate::hosts::{self, CHANGE_TIMEOUT, within};
use crate::machines::record::{update_record, updated};
use crate::{Error, Platform, lookup};
use host_api::{CallContext, HostError};
use model::id::{Epoch, HostId, MachineId};
use std::time::Duration;
use store::records::{self, encode};
use store::{Compare, Op, Txn};

/// Time in which confirmations gather before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// Confirms a create soon, in the background; at once if too many wait.
pub(super) async fn confirm_soon(platform: &Platform, confirmation: Confirmation) {
    match platform.confirmations().push(confirmation) {
        Queued::First => {
            let own = platform.clone();
            platform.tasks().spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = own.tasks().stopping() => {}
                }
                confirm_all(&own, own.confirmations().take()).await;
            });
        }
        Queued::Behind => {}
        Queued::Refused(confirmation) => confirm_one(platform, &confirmation).await,
    }
}

/// Confirms creates in one transaction; each by itself if a record of them has
/// changed since it was claimed.
async fn confirm_all(platform: &Platform, confirmations: Vec<Confirmation>) {
    let mut txn = Txn::default();
    for Confirmation { id, claimed: (record, revision), machine } in &confirmations {
        let key = records::machine_key(*id);
        txn.compare.push(Compare::Modified(key.clone(), *revision));
        if let Some(record) = updated(record.clone(), machine) {
            txn.then.push(Op::put(key, encode(&record)));
        }
    }
    match platform.store().txn(txn).await {
        Ok(result) if result.succeeded => return,
        Ok(_) => {}
        Err(err) => tracing::warn!(error = %err, "record created machines"),
    }
    for confirmation in &confirmations {
        confirm_one(platform, confirmation).await;
    }
}

/// Confirms one create. If its claim has been released since the answer, the machine
/// has no owner, and it is destroyed.
async fn confirm_one(platform: &Platform, confirmation: &Confirmation) {
    let Confirmation { id, claimed: (claimed, _), machine } = confirmation;
    let confirmed = async {
        match lookup::by_id_in_store(platform, *id).await? {
            // An update or the reconciler has written it since.
            Some(found) if found.record.created => return Ok(()),
            Some(_) if update_record(platform, *id, machine).await? => return Ok(()),
            _ => {}
        }
        tracing::warn!(machine = %id, "destroy a created machine whose claim was released");
        destroy_unowned(platform, claimed.owner, *id, Some(claimed.epoch)).await
    };
    if let Err(err) = confirmed.await {
        tracing::warn!(machine = %id, error = %err, "record a created machine");
    }
}

/// Destroys a machine that has no record. One that is gone already is no failure.
pub(crate) async fn destroy_unowned(
    platform: &Platform,
    host: HostId,
    id: MachineId,
    epoch: Option<Epoch>,
) -> Result<(), Error> {
    let host = hosts::get(platform, host)?;
    // The control plane's own call: no lease refuses it.
    let context = CallContext::control(CHANGE_TIMEOUT);
    let context = match epoch {
        Some(epoch) => context.at(epoch),
        None => context,
    };
    match within(CHANGE_TIMEOUT, host.destroy(context, id, true)).await {
        // A conflict: it is being destroyed already.
        Ok(()) | Err(HostError::NotFound(_) | HostError::Conflict(_)) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Ports};
    use host_api::{FixedHosts, Machines};
    use model::id::AppId;
    use std::sync::Arc;
    use store::records::MachineRecord;
    use store_sqlite::SqliteStore;
    use testkit::FakeHost;

    #[tokio::test]
    async fn a_created_machine_whose_claim_is_gone_is_destroyed_and_others_are_confirmed() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, clock) = (rt::Tasks::new(), rt::Clock::manual(0));
        let path = dir.path().join("global.db");
        let store = Arc::new(SqliteStore::open(&path, clock.clone(), &tasks).unwrap());
        let host = FakeHost::new(HostId(0), "local");
        let hosts = Arc::new(FixedHosts::new(vec![host.known()]));
        let secrets_key = testkit::secrets_key();
        let ports = Ports { store, hosts, clock, rng: rt::Rng::seeded(1), tasks, secrets_key };
        let platform = Platform::new(Config::default(), ports);
        let mut confirmations = Vec::new();
        for (number, claimed) in [(1, true), (2, false)] {
            let id = testkit::create_machine(&host, number).await;
            let context = CallContext::control(CHANGE_TIMEOUT);
            let machine = host.machine(context, id).await.unwrap();
            let record = MachineRecord {
                region: None,
                app: AppId(1),
                name: machine.name.parse().unwrap(),
                owner: HostId(0),
                epoch: Epoch(1),
                number: None,
                claimed_ms: 0,
                created: false,
                instance: None,
                config: None,
                updated_at: None,
            };
            let put = Op::put(records::machine_key(id), encode(&record));
            let then = if claimed { vec![put] } else { vec![] };
            let revision = platform.store().txn(Txn { then, ..Txn::default() }).await.unwrap();
            let claimed = (record, revision.revision);
            confirmations.push(Confirmation { id, claimed, machine });
        }
        let kept = confirmations[0].id;
        confirm_all(&platform, confirmations).await;
        assert_eq!(host.alive(), [kept]);
        let record = lookup::whole_record(&platform, kept).await.unwrap().unwrap();
        assert!(record.created && record.instance.is_some() && record.config.is_some());
    }
}
