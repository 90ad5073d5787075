//! Machines and their names.

use model::address::MachineNumber;
use model::id::{AppId, Epoch, HostId, InstanceId, MachineId, MachineName};
use serde::{Deserialize, Serialize};
use wire::machines::MachineConfig;

/// Which machine has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// Machine id.
    pub id: MachineId,
}

/// Whom a machine belongs to, and what it should be if its host is lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineRecord {
    /// App.
    pub app: AppId,
    /// Name.
    pub name: MachineName,
    /// The host that owns it.
    pub owner: HostId,
    /// How often the ownership has been decided.
    pub epoch: Epoch,
    /// Number that its 6PN address follows from; `None` for machines of before
    /// numbers were allocated here: their host knows it.
    pub number: Option<MachineNumber>,
    /// Time of the claim, milliseconds since the epoch.
    pub claimed_ms: u64,
    /// The host has taken it.
    #[serde(default)]
    pub created: bool,
    /// The code of the owner's region that it was asked for; `None`: the region's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Version of its config, once the host has taken it.
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// Its config in that version.
    #[serde(default)]
    pub config: Option<MachineConfig>,
    /// The `updated_at` of the host's answer that version and config are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

/// A machine whose record has been deleted, while some host may still have it. It is kept
/// until no host has the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedRecord {
    /// Time of the release, milliseconds since the epoch.
    pub released_ms: u64,
}
