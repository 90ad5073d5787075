//! Keys of the records.

use model::id::{AppId, MachineId, NetworkId, OrgId, ReleaseId, VolumeId};
use std::net::Ipv6Addr;

/// Version of the layout of the keys and records.
pub const SCHEMA: &str = "/schema";
/// Prefix of the keys of organizations.
pub const ORGS: &str = "/orgs/";
/// Prefix of the keys of apps.
pub const APPS: &str = "/apps/";
/// Prefix of the keys of machines.
pub const MACHINES: &str = "/machines/";
/// Prefix of the keys of machine names.
pub const NAMES: &str = "/names/";
/// Prefix of the keys of tokens.
pub const TOKENS: &str = "/tokens/";

/// Key of an organization.
pub fn org_key(slug: &str) -> String {
    format!("{ORGS}{slug}")
}

/// Key of a network of an organization.
pub fn network_key(org: &str, name: &str) -> String {
    format!("/networks/{org}/{name}")
}

/// Key of the last number that was allocated from a counter.
pub fn counter_key(counter: &str) -> String {
    format!("/counters/{counter}")
}

/// Key of an app.
pub fn app_key(app: &str) -> String {
    format!("{APPS}{app}")
}

/// Key of the name of the app that an organization created with an idempotency
/// key. Organizations do not share keys.
pub fn idempotency_key(org: OrgId, key: &str) -> String {
    format!("/idempotency-keys/{org}/{key}")
}

/// Prefix of the names of an app's machines.
pub fn names_of(app: AppId) -> String {
    format!("{NAMES}{app}/")
}

/// Key of the name of a machine.
pub fn name_key(app: AppId, name: &str) -> String {
    format!("{NAMES}{app}/{name}")
}

/// Key of a machine.
pub fn machine_key(id: MachineId) -> String {
    format!("{MACHINES}{id}")
}

/// Prefix of the keys of released machines.
pub const RELEASED: &str = "/released/";

/// Key that records that a machine has no owner any more.
pub fn released_key(id: MachineId) -> String {
    format!("{RELEASED}{id}")
}

/// Prefix of the keys of requests with idempotency keys.
pub const REQUESTS: &str = "/requests/";

/// Key of a request by the SHA-256 of its caller and idempotency key in hex.
pub fn request_key(sha256: &str) -> String {
    format!("{REQUESTS}{sha256}")
}

/// Prefix of the keys that name an app's machines, destroyed ones included.
pub fn machines_of(app: AppId) -> String {
    format!("/app-machines/{app}/")
}

/// Key that lists a machine under its app.
pub fn app_machine_key(app: AppId, id: MachineId) -> String {
    format!("/app-machines/{app}/{id}")
}

/// Prefix of the keys of apps' secrets.
pub const SECRETS: &str = "/secrets/";

/// Key of the secrets of an app.
pub fn secrets_key(app: AppId) -> String {
    format!("{SECRETS}{app}")
}

/// Key of the secret keys of an app.
pub fn secret_keys_key(app: AppId) -> String {
    format!("/secret-keys/{app}")
}

/// Key of the releases of an app.
pub fn app_releases_key(app: AppId) -> String {
    format!("/app-releases/{app}")
}

/// Prefix of the keys of what releases deploy.
pub const RELEASES: &str = "/releases/";

/// Key of what a release deploys.
pub fn release_key(id: ReleaseId) -> String {
    format!("{RELEASES}{id}")
}

/// Key of the builds of an app.
pub fn app_builds_key(app: AppId) -> String {
    format!("/app-builds/{app}")
}

/// Prefix of the keys of volumes.
pub const VOLUMES: &str = "/volumes/";

/// Key of a volume.
pub fn volume_key(id: VolumeId) -> String {
    format!("{VOLUMES}{id}")
}

/// Prefix of the keys that list volumes under their apps.
pub const APP_VOLUMES: &str = "/app-volumes/";

/// Prefix of the keys that name an app's volumes.
pub fn volumes_of(app: AppId) -> String {
    format!("{APP_VOLUMES}{app}/")
}

/// Key that lists a volume under its app.
pub fn app_volume_key(app: AppId, id: VolumeId) -> String {
    format!("{APP_VOLUMES}{app}/{id}")
}

/// Key of a token by the SHA-256 of it in hex.
pub fn token_key(sha256: &str) -> String {
    format!("{TOKENS}{sha256}")
}

/// Prefix of the keys that list the tokens of an organization.
pub fn tokens_of(org: OrgId) -> String {
    format!("/org-tokens/{org}/")
}

/// Key that lists a token under its organization, by the SHA-256 of it in hex.
pub fn org_token_key(org: OrgId, sha256: &str) -> String {
    format!("/org-tokens/{org}/{sha256}")
}

/// Key of the last use of a token, by the SHA-256 of it in hex.
pub fn token_use_key(sha256: &str) -> String {
    format!("/token-uses/{sha256}")
}

/// Prefix of the keys of members.
pub const MEMBERS: &str = "/members/";

/// Prefix of the keys of an organization's members.
pub fn members_of(org: OrgId) -> String {
    format!("{MEMBERS}{org}/")
}

/// Key of a member of an organization.
pub fn member_key(org: OrgId, email: &str) -> String {
    format!("{MEMBERS}{org}/{email}")
}

/// Prefix of the keys of an organization's networks.
pub fn networks_of(org: &str) -> String {
    format!("/networks/{org}/")
}

/// Prefix of the keys of an organization's WireGuard peers.
pub fn wireguard_peers_of(org: OrgId) -> String {
    format!("/wireguard-peers/{org}/")
}

/// Key of a WireGuard peer of an organization.
pub fn wireguard_peer_key(org: OrgId, name: &str) -> String {
    format!("/wireguard-peers/{org}/{name}")
}

/// Prefix of the keys of the addresses that WireGuard peers have in a network.
pub fn wireguard_addresses_in(network: NetworkId) -> String {
    format!("/wireguard-addresses/{}/", network.0)
}

/// Key of the address of a WireGuard peer.
pub fn wireguard_address_key(network: NetworkId, address: Ipv6Addr) -> String {
    format!("/wireguard-addresses/{}/{address}", network.0)
}
