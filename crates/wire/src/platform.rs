//! What the API returns about the platform itself: its hosts and regions.

use crate::machines::Guest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// What a host is and has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// Number, unique in the platform.
    pub host: u16,
    /// Name, as its operator calls it.
    #[serde(default)]
    pub name: String,
    /// Region code.
    pub region: String,
    /// Further codes of the region; a machine has the one that it was asked for.
    #[serde(default)]
    pub region_codes: Vec<String>,
    /// Names that stand for `region`.
    #[serde(default)]
    pub region_aliases: Vec<String>,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Version of the hypervisor.
    pub hypervisor: String,
    /// CPUs.
    pub cpus: u32,
    /// MiB of memory that there is for machines.
    pub memory_mib: u64,
    /// MiB promised to running machines.
    pub memory_reserved_mib: u64,
    /// MiB that the VMs really hold: the sum of their PSS.
    #[serde(default)]
    pub memory_used_mib: u64,
    /// How many times `memory_mib` may be promised; 1, and 0 for hosts that do
    /// not report it, mean no more than there is.
    #[serde(default)]
    pub overcommit: f64,
    /// Sizes that start from a template, as CPUs and MiB: `1x256`.
    #[serde(default)]
    pub templates: Vec<String>,
    /// Machines by state.
    pub machines: BTreeMap<String, u64>,
    /// First address and prefix length of the private IPv4 addresses of its
    /// machines.
    #[serde(default)]
    pub ipv4_pool: Option<(Ipv4Addr, u8)>,
}

/// Answer to `GET /v1/platform/host-names`: the API under host names of Fly.io, over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostNames {
    /// The address that the names have to resolve to.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// The names.
    pub names: Vec<String>,
    /// Certificate of the authority that certifies the names and no other, PEM.
    pub ca_certificate: String,
}

/// Answer to `GET /v1/platform/regions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RegionList {
    /// All regions.
    pub regions: Vec<Region>,
    /// Code of the one that is used where none is named.
    pub nearest: String,
}

/// A region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Region {
    /// Code.
    pub code: String,
    /// Name of the city; the code itself, where that is not known.
    pub name: String,
    /// Degrees north; 0 where it is not known.
    pub latitude: f64,
    /// Degrees east; 0 where it is not known.
    pub longitude: f64,
    /// There is a WireGuard gateway.
    pub gateway_available: bool,
    /// Never.
    pub requires_paid_plan: bool,
    /// No machine is placed there any more.
    pub deprecated: bool,
    /// How many machines of the size asked for there is memory for; `performance-1x` if none was
    /// named.
    pub capacity: u64,
    /// Part of the world, or empty.
    pub geo_region: String,
    /// There is managed Postgres.
    pub mpg_available: bool,
}

/// Body of `POST /v1/platform/placements`: where machines of one size would be placed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AskPlacements {
    /// Size of the machines; absent means `performance-1x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Guest>,
    /// Region expression; absent or empty means `[nearest],any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Machines; 0 and absent mean as many as there is room for, 10 000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Organization of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_slug: Option<String>,
    /// How much each part of the request counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PlacementWeights>,
    /// Name of the volumes that the machines are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// Bytes of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size_bytes: Option<u64>,
}

/// How much each part of a request counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementWeights {
    /// For an early region of the expression; 50 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<u32>,
    /// For few machines on one host; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<u32>,
}

/// Answer to `POST /v1/platform/placements`; nothing is reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placements {
    /// Regions with their machines; the one that was chosen first comes first.
    pub regions: Vec<RegionPlacement>,
}

/// Machines of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionPlacement {
    /// Code.
    pub region: String,
    /// Machines that would be placed there.
    pub count: u32,
    /// Hosts that they would be on, and that make them at the same time.
    pub concurrency: u32,
}
