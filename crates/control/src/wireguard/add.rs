//! Adding a peer: number, address and name are claimed in one transaction.

use super::rules;
use crate::access::{app_access, base, is_permitted, permit};
use crate::counters::next_number;
use crate::error::shortened;
use crate::orgs::DEFAULT_NETWORK;
use crate::retry::Tries;
use crate::{Error, Kind, Platform, hosts, lookup};
use host_api::Caller;
use macaroon::{Access, Action};
use model::address::{PeerNumber, of_peer};
use model::id::{NetworkId, NetworkName};
use std::net::IpAddr;
use store::records::{
    self, AppRecord, Listed, NetworkRecord, OrgRecord, Stored, WireGuardPeerRecord, encode,
};
use store::{Compare, Op, Txn};

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct AddPeer {
    /// Slug of the organization.
    pub(crate) org: String,
    /// Name.
    pub(crate) name: String,
    /// Public key.
    pub(crate) public_key: String,
    /// Code of a region.
    pub(crate) region: Option<String>,
    /// Name of a network of the organization; its default one if there is none.
    pub(crate) network: Option<String>,
}

/// A peer, and the gateway's address and key, which it needs.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    /// The peer.
    pub(crate) peer: WireGuardPeerRecord,
    /// The address that it dials.
    pub(crate) endpoint: IpAddr,
    /// Public key of the gateway.
    pub(crate) gateway_key: String,
}

/// Adds a peer. One of the same name, key and network is answered again.
///
/// # Errors
/// The caller may not, or the request is not valid; there is no gateway; the name belongs to
/// another peer; the organization has as many as it may.
pub(crate) async fn add(platform: &Platform, ask: AddPeer) -> Result<Added, Error> {
    let org = lookup::org(platform, &ask.org).await?;
    let network = ask.network.as_deref().filter(|name| !name.is_empty());
    let network = network.unwrap_or(DEFAULT_NETWORK);
    may_add(platform, &org, network).await?;
    let (endpoint, gateway_key) = platform.config().gateway.endpoint()?;
    rules::name(&ask.name)?;
    let public_key = rules::public_key(&ask.public_key)?;
    let region = region(platform, ask.region.as_deref()).await?;
    let number = number_of(platform, &org, network).await?;
    let created_by = match platform.caller() {
        Caller::Token(name) => Some(name.clone()),
        _ => None,
    };
    let wanted = |address| WireGuardPeerRecord {
        name: ask.name.clone(),
        public_key: public_key.clone(),
        network: number,
        address,
        region: region.clone(),
        created_ms: platform.clock().now_ms(),
        created_by: created_by.clone(),
    };
    let added = |peer| Added { peer, endpoint, gateway_key: gateway_key.to_owned() };
    let key = records::wireguard_peer_key(org.id, &ask.name);
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let _counters = platform.lock_counters().await;
        let known: Option<Stored<WireGuardPeerRecord>> =
            records::get(platform.store(), &key).await?;
        if let Some(Stored { record: known, .. }) = known {
            // The answer may have been lost on its way.
            if known.public_key == public_key && known.network == number {
                return Ok(added(known));
            }
            let name = shortened(&ask.name, 80);
            let text = format!("organization {:?} has a WireGuard peer {name:?}", org.slug);
            return Err(Error::name_taken(&text));
        }
        let compare = vec![Compare::Absent(key.clone()), unmarked(platform, &org).await?];
        let mut txn = Txn { compare, ..Txn::default() };
        make_room(platform, &org, &mut txn).await?;
        let next = next_number(platform, "wireguard-peers", &mut txn).await?;
        let peer = wanted(of_peer(number, PeerNumber(next)));
        let address = records::wireguard_address_key(number, peer.address);
        txn.compare.push(Compare::Absent(address.clone()));
        txn.then.push(Op::put(&key, encode(&peer)));
        txn.then.push(Op::put(address, encode(&())));
        if platform.store().txn(txn).await?.succeeded {
            return Ok(added(peer));
        }
    }
    Err(Error::contention("the list of WireGuard peers"))
}

/// The caller may manage peers of the organization, or make machines in its network: those reach
/// everything that a peer could.
async fn may_add(platform: &Platform, org: &OrgRecord, network: &str) -> Result<(), Error> {
    let id = Some(u64::from(org.id.0));
    let access = Access { org: id, ..base(platform, Action::CREATE) };
    if platform.rights().is_hidden(&access) {
        return Err(lookup::no_org(&org.slug));
    }
    let access = Access { org_feature: Some("wg".to_owned()), ..access };
    if is_permitted(platform, &access) {
        return Ok(());
    }
    let in_network =
        |app: &AppRecord| app.org == org.slug && !app.deleting && app.network == network;
    for app in lookup::below(platform, records::APPS, in_network).await? {
        let access = app_access(platform, &app.record, Action::CREATE).await?;
        if is_permitted(platform, &access) {
            return Ok(());
        }
    }
    permit(platform, &access, &format!("WireGuard peers of organization {:?}", org.slug))
}

/// The region that was asked for, which has to be one of the platform, or the nearest.
async fn region(platform: &Platform, asked: Option<&str>) -> Result<String, Error> {
    let (known, nearest) = hosts::regions(platform, 1).await?;
    match asked.filter(|code| !code.is_empty()) {
        None => Ok(nearest),
        Some(code) if known.iter().any(|region| region.code == code) => Ok(code.to_owned()),
        Some(code) => {
            let codes: Vec<&str> = known.iter().map(|region| region.code.as_str()).collect();
            let (code, codes) = (shortened(code, 80), codes.join(", "));
            Err(Error::invalid("region", format!("{code:?} is no region of it: {codes}")))
        }
    }
}

/// The organization is still as it is, and is not being deleted.
async fn unmarked(platform: &Platform, org: &OrgRecord) -> Result<Compare, Error> {
    let key = records::org_key(&org.slug);
    let stored: Option<Stored<OrgRecord>> = records::get(platform.store(), &key).await?;
    let stored = stored.filter(|now| now.record.id == org.id && !now.record.deleting);
    let stored = stored.ok_or_else(|| lookup::no_org(&org.slug))?;
    Ok(Compare::Modified(stored.key, stored.revision))
}

async fn number_of(
    platform: &Platform,
    org: &OrgRecord,
    network: &str,
) -> Result<NetworkId, Error> {
    let none = || {
        let network = shortened(network, 80);
        Error::not_found(format!("organization {:?} has no network {network:?}", org.slug))
            .hint("a network is made with the first app in it")
    };
    let name: NetworkName = network.parse().map_err(|_| none())?;
    let key = records::network_key(&org.slug, name.as_str());
    let found: Option<Stored<NetworkRecord>> = records::get(platform.store(), &key).await?;
    found.map(|found| found.record.number).ok_or_else(none)
}

/// Where the organization has as many peers as it may, the oldest one is deleted if it is old
/// enough.
async fn make_room(platform: &Platform, org: &OrgRecord, txn: &mut Txn) -> Result<(), Error> {
    let all: Listed<WireGuardPeerRecord> =
        lookup::list(platform, &records::wireguard_peers_of(org.id)).await?;
    if all.records.len() + all.unreadable.len() < rules::MAX_PEERS {
        return Ok(());
    }
    let oldest = all.records.into_iter().min_by_key(|peer| peer.record.created_ms);
    let age = u64::try_from(rules::MAY_BE_REPLACED.as_millis()).unwrap_or(u64::MAX);
    let before = platform.clock().now_ms().saturating_sub(age);
    let Some(oldest) = oldest.filter(|oldest| oldest.record.created_ms <= before) else {
        let most = rules::MAX_PEERS;
        let why =
            format!("organization {:?} has {most} WireGuard peers, which is the most", org.slug);
        return Err(Error::new(Kind::Conflict, why)
            .hint("remove those that are not used: `fly wireguard list`, `fly wireguard remove`"));
    };
    let Stored { key, revision, record } = oldest;
    txn.then.push(Op::delete(records::wireguard_address_key(record.network, record.address)));
    txn.then.push(Op::delete(&key));
    txn.compare.push(Compare::Modified(key, revision));
    Ok(())
}
