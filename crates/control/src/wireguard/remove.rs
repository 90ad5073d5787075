//! Removing peers.

use super::read::get;
use crate::{Error, Platform};
use store::records::{self, NetworkRecord, OrgRecord, Stored};
use store::{Compare, KeyRange, Op, Txn};

/// Operations of one transaction (the port allows 128).
const OPS: usize = 100;

/// Removes a peer of an organization.
///
/// # Errors
/// There is none of this name.
pub(crate) async fn remove(platform: &Platform, org: &OrgRecord, name: &str) -> Result<(), Error> {
    let Stored { key, revision, record } = get(platform, org, name).await?;
    let address = records::wireguard_address_key(record.network, record.address);
    let txn = Txn {
        compare: vec![Compare::Modified(key.clone(), revision)],
        then: vec![Op::delete(key), Op::delete(address)],
        otherwise: vec![],
    };
    if platform.store().txn(txn).await?.succeeded {
        return Ok(());
    }
    Err(Error::contention("the WireGuard peer"))
}

/// Removes all peers of an organization that is marked for its deletion.
///
/// # Errors
/// The store failed.
pub(crate) async fn remove_all(platform: &Platform, org: &OrgRecord) -> Result<(), Error> {
    let networks: Vec<Stored<NetworkRecord>> =
        records::list(platform.store(), &records::networks_of(&org.slug)).await?;
    let mut prefixes = vec![records::wireguard_peers_of(org.id)];
    let numbers = networks.iter().map(|network| network.record.number);
    prefixes.extend(numbers.map(records::wireguard_addresses_in));
    for some in prefixes.chunks(OPS) {
        let then = some.iter().map(|prefix| Op::Delete(KeyRange::prefix(prefix))).collect();
        platform.store().txn(Txn { then, ..Txn::default() }).await?;
    }
    Ok(())
}
