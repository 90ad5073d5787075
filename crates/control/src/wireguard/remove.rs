//! Removing peers.

use super::read::get;
use crate::{Error, Platform};
use store::records::{self, NetworkRecord, OrgRecord, Stored};
use store::{Compare, KeyRange, Op, Txn};

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

/// What deletes all peers of an organization that is being deleted, together with its networks.
///
/// # Errors
/// The store failed.
pub(crate) async fn deletions_of_org(
    platform: &Platform,
    org: &OrgRecord,
) -> Result<Vec<Op>, Error> {
    let networks: Vec<Stored<NetworkRecord>> =
        records::list(platform.store(), &records::networks_of(&org.slug)).await?;
    let addresses = networks.iter().map(|network| network.record.number);
    let addresses = addresses
        .map(|number| Op::Delete(KeyRange::prefix(&records::wireguard_addresses_in(number))));
    let peers = KeyRange::prefix(&records::wireguard_peers_of(org.id));
    Ok(addresses.chain([Op::Delete(peers)]).collect())
}
