//! Claims: names, ids, numbers and owners of machines, allocated in the store
//! before a host is asked to create the machine.

use crate::hosts::{self, CHANGE_TIMEOUT, READ_TIMEOUT, within};
use crate::retry::Tries;
use crate::{Error, Platform, resolve};
use bytes::Bytes;
use host_api::HostError;
use model::address::MachineNumber;
use model::id::{AppId, AppName, Epoch, HostId, InstanceId, MachineId, MachineName};
use model::life::State;
use std::time::Duration;
use store::records::{self, MachineRecord, NameRecord, Stored, encode};
use store::{Compare, Op, Txn};
use wire::machines::Machine;

/// Age at which the create that made a claim is over, one way or the other: the
/// deadline of its call to the host has passed, and the host refuses it after that.
pub(crate) const CLAIM_LIFETIME: Duration = Duration::from_secs(2 * CHANGE_TIMEOUT.as_secs());

/// A claimed machine.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) id: MachineId,
    pub(super) app: AppId,
    pub(super) name: MachineName,
    pub(super) epoch: Epoch,
    pub(super) number: MachineNumber,
}

/// Records name and owner of a machine that is to be created. Creates of the
/// same name compete here, and one of them wins.
pub(super) async fn claim(
    platform: &Platform,
    owner: HostId,
    app: &AppName,
    wanted: Option<&MachineName>,
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
        let stored = resolve::app(platform, app.as_str()).await?;
        let name_key = records::name_key(stored.record.id, name.as_str());
        let taken: Option<Stored<NameRecord>> = records::get(platform.store(), &name_key).await?;
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
        let id = MachineId::from_random(rng.bits());
        let conditions = vec![name_unchanged, app_unchanged];
        if let Some(claim) =
            write(platform, (id, stored.record.id, name), owner, conditions).await?
        {
            return Ok(claim);
        }
    }
    Err(Error::contention("the list of machines"))
}

async fn write(
    platform: &Platform,
    (id, app, name): (MachineId, AppId, MachineName),
    owner: HostId,
    mut compare: Vec<Compare>,
) -> Result<Option<Claim>, Error> {
    let _counters = platform.lock_counters().await;
    let counter_key = records::counter_key("machines");
    let last: Option<Stored<u64>> = records::get(platform.store(), &counter_key).await?;
    let (last, revision) = last.map_or((0, 0), |counter| (counter.record, counter.revision));
    let number = MachineNumber::allocated(last)
        .ok_or_else(|| Error::internal("all machine numbers are in use"))?;
    let record = MachineRecord {
        app,
        name: name.clone(),
        owner,
        epoch: Epoch(1),
        number: Some(number),
        claimed_ms: platform.clock().now_ms(),
        created: false,
        instance: None,
        config: None,
    };
    let machine_key = records::machine_key(id);
    compare.push(Compare::Modified(counter_key.clone(), revision));
    compare.push(Compare::Absent(machine_key.clone()));
    let then = vec![
        Op::put(counter_key, encode(&(last + 1))),
        Op::put(records::name_key(app, name.as_str()), encode(&NameRecord { id })),
        Op::put(machine_key, encode(&record)),
        Op::put(records::app_machine_key(app, id), Bytes::new()),
    ];
    let written = platform.store().txn(Txn { compare, then, otherwise: vec![] }).await?.succeeded;
    Ok(written.then_some(Claim { id, app, name, epoch: record.epoch, number }))
}

/// The machine that holds a name is gone, so that the name may be taken over.
async fn is_free(platform: &Platform, id: MachineId) -> Result<bool, Error> {
    let Some(machine) = resolve::by_id(platform, id).await? else { return Ok(true) };
    let host = hosts::get(platform, machine.record.owner)?;
    match within(READ_TIMEOUT, host.machine(platform.context(READ_TIMEOUT), id)).await {
        Ok(machine) => Ok(machine.state == State::Destroyed.as_str()),
        Err(HostError::NotFound(_)) => Ok(is_abandoned_claim(platform, &machine.record)),
        Err(err) => Err(err.into()),
    }
}

/// The create that made this claim is over, and no host has confirmed the machine.
/// Only says something about a machine that its host does not know.
pub(crate) fn is_abandoned_claim(platform: &Platform, record: &MachineRecord) -> bool {
    let age = platform.clock().now_ms().saturating_sub(record.claimed_ms);
    !record.created && u128::from(age) > CLAIM_LIFETIME.as_millis()
}

/// Whether the machine still holds its name. A destroyed one does not.
pub(crate) async fn holds_name(
    platform: &Platform,
    id: MachineId,
    record: &MachineRecord,
) -> Result<bool, Error> {
    let key = records::name_key(record.app, record.name.as_str());
    let holder: Option<Stored<NameRecord>> = records::get(platform.store(), &key).await?;
    Ok(holder.is_some_and(|holder| holder.record.id == id))
}

/// Frees the name that a machine holds and, with `forget`, deletes its record. A
/// name that another machine holds by now stays.
pub(crate) async fn release(
    platform: &Platform,
    (app, name): (AppId, &MachineName),
    id: MachineId,
    forget: bool,
) -> Result<(), Error> {
    let name_key = records::name_key(app, name.as_str());
    let record = || [records::machine_key(id), records::app_machine_key(app, id)].map(Op::delete);
    let forgotten = || record().into_iter().filter(|_| forget);
    let txn = Txn {
        compare: vec![Compare::Value(name_key.clone(), encode(&NameRecord { id }))],
        then: std::iter::once(Op::delete(name_key)).chain(forgotten()).collect(),
        otherwise: forgotten().collect(),
    };
    platform.store().txn(txn).await?;
    Ok(())
}

/// Records that a host has taken a machine, with the version and config that it
/// has there. Doing it again changes nothing.
///
/// Returns false if the claim has been released meanwhile: then the machine
/// has no owner.
pub(crate) async fn mark_created(
    platform: &Platform,
    id: MachineId,
    machine: &Machine,
) -> Result<bool, Error> {
    let key = records::machine_key(id);
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let stored: Option<Stored<MachineRecord>> = records::get(platform.store(), &key).await?;
        let Some(Stored { revision, mut record, .. }) = stored else { return Ok(false) };
        let instance: Option<InstanceId> = machine.instance_id.parse().ok();
        let same = record.created && record.instance == instance;
        let numbered = record.number.is_some() || machine.private_ip.is_empty();
        if same && numbered && (machine.config.is_none() || record.config == machine.config) {
            return Ok(true);
        }
        (record.created, record.instance) = (true, instance);
        record.number = record.number.or_else(|| number_of(&machine.private_ip));
        if let Some(config) = &machine.config {
            record.config = Some(config.clone());
        }
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), revision)],
            then: vec![Op::put(&key, encode(&record))],
            otherwise: vec![],
        };
        if platform.store().txn(txn).await?.succeeded {
            return Ok(true);
        }
    }
    Err(Error::contention("the machine's record"))
}

/// The number in a 6PN address: machines of before numbers were allocated here
/// have had theirs from their host.
fn number_of(private_ip: &str) -> Option<MachineNumber> {
    let address: std::net::Ipv6Addr = private_ip.parse().ok()?;
    u64::try_from((address.to_bits() >> 16) & u128::from(u64::MAX)).ok().map(MachineNumber)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::address::{Ipv4Pool, Slot, of_machine, uncompressed};
    use model::id::NetworkId;

    #[test]
    fn the_number_of_a_machine_is_in_its_address() {
        let pool = Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap();
        let number = MachineNumber::allocated(5).unwrap();
        let address = of_machine(pool, Slot(9), NetworkId(7), number).unwrap().ipv6;
        assert_eq!(number_of(&uncompressed(address)), Some(number));
        let of_slot = MachineNumber::of_slot(HostId(2), Slot(3));
        let address = of_machine(pool, Slot(3), NetworkId(7), of_slot).unwrap().ipv6;
        assert_eq!(number_of(&uncompressed(address)), Some(of_slot));
        assert_eq!(number_of(""), None);
    }
}
