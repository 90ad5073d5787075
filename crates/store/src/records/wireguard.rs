//! WireGuard peers of organizations.

use model::id::NetworkId;
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;

/// A WireGuard peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireGuardPeerRecord {
    /// Name, unique in the organization.
    pub name: String,
    /// Public key, base64 of 32 bytes.
    pub public_key: String,
    /// Number of the network that it is in.
    pub network: NetworkId,
    /// Its address there; the /120 around it is its own.
    pub address: Ipv6Addr,
    /// Code of the region that it was made in.
    pub region: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Name of the token that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}
