//! Peers as they are stored.

use crate::error::shortened;
use crate::{Error, Platform, lookup};
use model::address::network_of;
use std::net::Ipv6Addr;
use store::records::{self, Listed, OrgRecord, Stored, WireGuardPeerRecord};

/// Most addresses of one question: a client asks about its own peers.
const MAX_ADDRESSES: usize = 1000;

/// The peers of an organization, by name.
pub(crate) async fn list(
    platform: &Platform,
    org: &OrgRecord,
) -> Result<Vec<WireGuardPeerRecord>, Error> {
    let all: Listed<WireGuardPeerRecord> =
        lookup::list(platform, &records::wireguard_peers_of(org.id)).await?;
    Ok(all.records.into_iter().map(|stored| stored.record).collect())
}

/// One of them.
///
/// # Errors
/// There is none of this name.
pub(crate) async fn get(
    platform: &Platform,
    org: &OrgRecord,
    name: &str,
) -> Result<Stored<WireGuardPeerRecord>, Error> {
    let found = match name.contains('/') {
        true => None,
        false => {
            let key = records::wireguard_peer_key(org.id, name);
            records::get(platform.store(), &key).await?
        }
    };
    found.ok_or_else(|| {
        let name = shortened(name, 80);
        Error::not_found(format!("organization {:?} has no WireGuard peer {name:?}", org.slug))
            .hint("`fly wireguard list` shows the peers of an organization")
    })
}

/// Those of the texts that are no address of a peer of any organization: a client forgets its
/// peers of these addresses. Which addresses there are is no secret.
///
/// # Errors
/// There are too many.
pub(crate) async fn invalid_addresses(
    platform: &Platform,
    texts: Vec<String>,
) -> Result<Vec<String>, Error> {
    if texts.len() > MAX_ADDRESSES {
        return Err(Error::invalid("peerIps", format!("must be at most {MAX_ADDRESSES}")));
    }
    let mut invalid = Vec::new();
    for text in texts {
        if !is_of_peer(platform, &text).await? {
            invalid.push(text);
        }
    }
    Ok(invalid)
}

async fn is_of_peer(platform: &Platform, text: &str) -> Result<bool, Error> {
    let Ok(address) = text.parse::<Ipv6Addr>() else { return Ok(false) };
    let Some(network) = network_of(address) else { return Ok(false) };
    let key = records::wireguard_address_key(network, address);
    let found: Option<Stored<()>> = records::get(platform.store(), &key).await?;
    Ok(found.is_some())
}
