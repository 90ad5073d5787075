//! Volumes.

use model::id::{AppId, HostId};
use model::volume::{FileSystem, VolumeName};
use serde::{Deserialize, Serialize};

/// Whom a volume belongs to, and what is shown of it while its host does not answer. What is
/// on it, and which machine has it, is known to its host alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// App.
    pub app: AppId,
    /// Name.
    pub name: VolumeName,
    /// The host that has it.
    pub host: HostId,
    /// Code of the region.
    pub region: String,
    /// GiB.
    pub size_gb: u32,
    /// What was made on it.
    pub fstype: FileSystem,
    /// Days that its snapshots are kept.
    pub snapshot_retention: u32,
    /// It is to have scheduled snapshots.
    pub auto_backup_enabled: bool,
    /// Time of the claim, milliseconds since the epoch.
    pub claimed_ms: u64,
    /// The host has made it.
    #[serde(default)]
    pub created: bool,
    /// It is being destroyed.
    #[serde(default)]
    pub destroying: bool,
}
