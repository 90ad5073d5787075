//! What the API returns about the platform itself: `GET /v1/platform/hosts`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What a host is and has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Number, unique in the platform.
    pub host: u16,
    /// Name, as its operator calls it.
    #[serde(default)]
    pub name: String,
    /// Region code.
    pub region: String,
    /// Other codes under which the region may be asked for.
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
