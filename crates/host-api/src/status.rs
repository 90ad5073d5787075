//! What a host is and has.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::HostId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What a host is and has.
#[async_trait]
pub trait Status: Send + Sync {
    /// Asked for each placement: answers at once, without `memory_used_mib`.
    async fn info(&self, context: CallContext) -> Result<HostInfo, HostError>;

    /// The same with what its VMs really use, which takes time to find out.
    async fn info_with_usage(&self, context: CallContext) -> Result<HostInfo, HostError>;
}

/// What a host is and has, as hosts report it to control and edge. Clients see it as
/// [`wire::platform::HostInfo`], which has the fields that are part of the public API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Number, unique in the platform.
    pub host: HostId,
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
    /// machines. No two hosts of a platform share any.
    #[serde(default)]
    pub ipv4_pool: Option<(Ipv4Addr, u8)>,
}

impl From<HostInfo> for wire::platform::HostInfo {
    fn from(info: HostInfo) -> Self {
        // Named one by one: a new field is a decision about the public API.
        let HostInfo {
            host,
            name,
            region,
            region_codes,
            region_aliases,
            accelerator,
            hypervisor,
            cpus,
            memory_mib,
            memory_reserved_mib,
            memory_used_mib,
            overcommit,
            templates,
            machines,
            ipv4_pool,
        } = info;
        Self {
            host: host.0,
            name,
            region,
            region_codes,
            region_aliases,
            accelerator,
            hypervisor,
            cpus,
            memory_mib,
            memory_reserved_mib,
            memory_used_mib,
            overcommit,
            templates,
            machines,
            ipv4_pool,
        }
    }
}
