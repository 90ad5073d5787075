//! What the API returns about the platform itself: its hosts and regions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

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
