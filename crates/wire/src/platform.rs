//! What the API returns about the platform itself: `GET /v1/platform/hosts`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a host is and has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Number, unique in the platform.
    pub host: u16,
    /// Region code.
    pub region: String,
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
}
