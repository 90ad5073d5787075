//! Volumes (<https://fly.io/docs/machines/api/volumes-resource/>).

use super::{Extra, Guest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// `vol_` and 16 characters.
    pub id: String,
    /// Name; several volumes of an app may have the same.
    pub name: String,
    /// `creating`, `created` or `pending_destroy`.
    pub state: String,
    /// GiB.
    pub size_gb: u32,
    /// Code of its region.
    pub region: String,
    /// Its host, as four hex digits: volumes with different ones do not fail together.
    pub zone: String,
    /// Its disk is encrypted.
    pub encrypted: bool,
    /// The machine that has it.
    pub attached_machine_id: Option<String>,
    /// Always null: machines of an earlier platform had it.
    pub attached_alloc_id: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// Blocks of its file system; 0 if they are not known.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks that the app can use.
    pub blocks_avail: u64,
    /// Bytes of its disk.
    pub bytes_total: u64,
    /// Bytes that its disk takes on its host.
    pub bytes_used: u64,
    /// `ext4` or `raw`.
    pub fstype: String,
    /// Days that its snapshots are kept.
    pub snapshot_retention: u32,
    /// It is to have scheduled snapshots.
    pub auto_backup_enabled: bool,
    /// Always empty: hosts are not dedicated to organizations.
    pub host_dedication_key: String,
    /// `ok`, or `unreachable` if its host did not answer: then the rest is what is recorded.
    pub host_status: String,
    /// Always `local`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `POST /v1/apps/{app}/volumes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateVolume {
    /// 1 to 30 letters, digits and underscores.
    #[serde(default)]
    pub name: String,
    /// Region; absent or empty means the region of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// GiB, 1 to 500; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u32>,
    /// Encrypt its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// `ext4`, or `raw` for a block device without a file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fstype: Option<String>,
    /// Prefer a host without a volume of this name; true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_unique_zone: Option<bool>,
    /// Prefer a host without any volume of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_zone_app_wide: Option<bool>,
    /// Days that its snapshots are kept, 1 to 60; 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Scheduled snapshots; true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
    /// Restore this snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Fork this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_volume_id: Option<String>,
    /// Size of the machine that is to use it: a host with room for it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Guest>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `PUT /v1/apps/{app}/volumes/{volume}`: absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateVolume {
    /// Days that later snapshots are kept, 1 to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Scheduled snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
}

/// `PUT /v1/apps/{app}/volumes/{volume}/extend`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtendVolume {
    /// GiB that the volume is to have; never less than it has.
    #[serde(default)]
    pub size_gb: u32,
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeExtended {
    /// The volume.
    pub volume: Volume,
    /// Its machine sees the new size after its next start.
    pub needs_restart: bool,
}

/// `GET /v1/orgs/{org}/volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrgVolumes {
    /// The volumes of this page.
    pub volumes: Vec<OrgVolume>,
    /// Where the next page begins; empty after the last one.
    pub next_cursor: String,
    /// Id of the last volume of this page; empty if there is none.
    pub last_volume_id: String,
    /// Regions with hosts that did not answer: what is recorded of their volumes is listed.
    pub error_regions: Vec<String>,
}

/// A volume with its app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrgVolume {
    /// Id of the app.
    pub app_id: String,
    /// Name of the app.
    pub app_name: String,
    /// The volume.
    #[serde(flatten)]
    pub volume: Volume,
}
