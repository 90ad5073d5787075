//! Claims: names, ids, numbers and owners of machines, allocated in the store
//! before a host is asked to create the machine.

use super::numbers;
use crate::cache::Ownership;
use crate::hosts::{self, CHANGE_TIMEOUT, READ_TIMEOUT, within};
use crate::retry::Tries;
use crate::{Error, Platform, lookup};
use bytes::Bytes;
use host_api::HostError;
use model::id::{AppId, AppName, Epoch, HostId, MachineId, MachineName};
use model::life::State;
use std::time::Duration;
use store::records::{self, AppRecord, MachineRecord, NameRecord, ReleasedRecord, Stored, encode};
use store::{Compare, Op, Revision, Txn};
use wire::machines::MachineConfig;

/// Age at which the create that made a claim is over, one way or the other: the
/// deadline of its call to the host has passed, and the host refuses it after that.
pub(crate) const CLAIM_LIFETIME: Duration = Duration::from_secs(2 * CHANGE_TIMEOUT.as_secs());

/// What is to be claimed.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) app: &'a AppName,
    /// `None`: any that is free.
    pub(super) name: Option<&'a MachineName>,
    pub(super) config: &'a MachineConfig,
    /// The code of the owner's region that the machine was asked for.
    pub(super) region: Option<String>,
    /// `None`: a random one.
    pub(super) id: Option<MachineId>,
}

/// A claimed machine.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) id: MachineId,
    /// Its app when it was claimed.
    pub(super) app: AppRecord,
    pub(super) record: MachineRecord,
    /// Revision that wrote the record.
    pub(super) revision: Revision,
}

/// Records name, number, owner and config of a machine that is to be created.
/// Creates of the same name compete here, and one of them wins.
pub(super) async fn claim(
    platform: &Platform,
    owner: HostId,
    Wanted { app, name: wanted, config, region, id: wanted_id }: Wanted<'_>,
) -> Result<Claim, Error> {
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let rng = platform.rng();
        let name = match wanted {
            Some(name) => name.clone(),
            None => model::name::machine_name(rng.bits())
                .parse()
                .map_err(|err| Error::internal(format!("generate a machine name: {err}")))?,
        };
        // Read again each time: an app that is being deleted takes no machines.
        let stored = lookup::app(platform, app.as_str()).await?;
        let name_key = records::name_key(stored.record.id, name.as_str());
        let taken: Option<Stored<NameRecord>> = lookup::get(platform, &name_key).await?;
        if let Some(taken) = &taken
            && !is_free(platform, taken.record.id).await?
        {
            if wanted.is_none() {
                continue;
            }
            let detail = format!("app {:?} has a machine {name}", app.as_str());
            return Err(Error::name_taken(&detail));
        }
        // A name that is taken over must still be as it was read.
        let name_unchanged = Compare::Modified(name_key, taken.map_or(0, |taken| taken.revision));
        let app_unchanged = Compare::Modified(stored.key, stored.revision);
        let id = wanted_id.unwrap_or_else(|| MachineId::from_random(rng.bits()));
        let record = MachineRecord {
            app: stored.record.id,
            name,
            owner,
            epoch: Epoch(1),
            number: Some(numbers::allocate(platform).await?),
            claimed_ms: platform.clock().now_ms(),
            created: false,
            instance: None,
            region: region.clone(),
            config: Some(config.clone()),
            updated_at: None,
        };
        let conditions = vec![name_unchanged, app_unchanged];
        if let Some(revision) = write(platform, id, &record, conditions).await? {
            return Ok(Claim { id, app: stored.record, record, revision });
        }
    }
    Err(Error::contention("the list of machines"))
}

/// Writes a claim; `None` if a condition does not hold any more.
async fn write(
    platform: &Platform,
    id: MachineId,
    record: &MachineRecord,
    mut compare: Vec<Compare>,
) -> Result<Option<Revision>, Error> {
    let machine_key = records::machine_key(id);
    compare.push(Compare::Absent(machine_key.clone()));
    let name_key = records::name_key(record.app, record.name.as_str());
    let then = vec![
        Op::put(name_key, encode(&NameRecord { id })),
        Op::put(machine_key, encode(record)),
        Op::put(records::app_machine_key(record.app, id), Bytes::new()),
    ];
    let written = platform.store().txn(Txn { compare, then, otherwise: vec![] }).await?;
    Ok(written.succeeded.then_some(written.revision))
}

/// The machine that holds a name is gone, so that the name may be taken over.
async fn is_free(platform: &Platform, id: MachineId) -> Result<bool, Error> {
    let Some(machine) = lookup::by_id(platform, id).await? else { return Ok(true) };
    let host = hosts::get(platform, machine.record.owner)?;
    match within(READ_TIMEOUT, host.machine(platform.context(READ_TIMEOUT), id)).await {
        Ok(machine) => Ok(machine.state == State::Destroyed.as_str()),
        Err(HostError::NotFound(_)) => Ok(is_abandoned_claim(platform, &machine.record)),
        Err(err) => Err(err.into()),
    }
}

/// The create that made this claim is over, and no host has confirmed the machine.
/// Only meaningful for a machine that its host does not know.
pub(crate) fn is_abandoned_claim(platform: &Platform, record: &Ownership) -> bool {
    let age = platform.clock().now_ms().saturating_sub(record.claimed_ms);
    !record.created && u128::from(age) > CLAIM_LIFETIME.as_millis()
}

/// Whether the machine still holds its name. A destroyed one does not.
pub(crate) async fn holds_name(
    platform: &Platform,
    id: MachineId,
    record: &Ownership,
) -> Result<bool, Error> {
    let key = records::name_key(record.app, record.name.as_str());
    let holder: Option<Stored<NameRecord>> = records::get(platform.store(), &key).await?;
    Ok(holder.is_some_and(|holder| holder.record.id == id))
}

/// What is released of a machine beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Nothing: its record stays.
    Name,
    /// The record of a machine that certainly does not exist.
    Claim,
    /// The record of a machine that some host may still have; it is destroyed there.
    Record,
}

/// Frees the name that a machine holds and releases what `release` names. A name that
/// another machine holds by now stays.
pub(crate) async fn release(
    platform: &Platform,
    (app, name): (AppId, &MachineName),
    id: MachineId,
    release: Release,
) -> Result<(), Error> {
    let name_key = records::name_key(app, name.as_str());
    let released = match release {
        Release::Name => vec![],
        Release::Claim => forget(platform, app, id)[..2].to_vec(),
        Release::Record => forget(platform, app, id).to_vec(),
    };
    let txn = Txn {
        compare: vec![Compare::Value(name_key.clone(), encode(&NameRecord { id }))],
        then: std::iter::once(Op::delete(name_key)).chain(released.clone()).collect(),
        otherwise: released,
    };
    platform.store().txn(txn).await?;
    Ok(())
}

/// Deletes the record of a machine, and notes that no host may keep the machine.
pub(crate) fn forget(platform: &Platform, app: AppId, id: MachineId) -> [Op; 3] {
    let released = ReleasedRecord { released_ms: platform.clock().now_ms() };
    [
        Op::delete(records::machine_key(id)),
        Op::delete(records::app_machine_key(app, id)),
        Op::put(records::released_key(id), encode(&released)),
    ]
}
