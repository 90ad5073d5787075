//! Volumes of a host: disks that outlive the machines that use them.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::{AppId, MachineId, OrgId, VolumeId};
use model::volume::{FileSystem, State, VolumeName};
use serde::{Deserialize, Serialize};

/// The volumes of one host. It is the truth about their disks, and about which machine has
/// which: a volume belongs to one machine at most, from the answer to the create or update whose
/// config names it until that machine is destroyed, or is down with a config that does not.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes a volume. One of that id that is here already is the answer, if it was made with
    /// the same content; else [`HostError::Conflict`].
    async fn create_volume(
        &self,
        context: CallContext,
        volume: NewVolume,
    ) -> Result<HostVolume, HostError>;

    /// One volume.
    async fn volume(&self, context: CallContext, id: VolumeId) -> Result<HostVolume, HostError>;

    /// Volumes, oldest first.
    async fn volumes(
        &self,
        context: CallContext,
        filter: VolumeFilter,
    ) -> Result<Vec<HostVolume>, HostError>;

    /// Changes what is kept about a volume.
    async fn change_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        change: ChangeVolume,
    ) -> Result<HostVolume, HostError>;

    /// Makes a volume larger. The size that it has is no change; a smaller one is
    /// [`HostError::Invalid`]. With the volume comes whether its machine sees the new size
    /// only after its next start.
    async fn extend_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        size_gb: u32,
    ) -> Result<(HostVolume, bool), HostError>;

    /// Removes a volume with everything on it; [`HostError::Conflict`] while a machine has it.
    /// One that is not here is [`HostError::NotFound`].
    async fn destroy_volume(&self, context: CallContext, id: VolumeId) -> Result<(), HostError>;
}

/// A volume to be made; its content has been validated and claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    /// Id, chosen by the control plane.
    pub id: VolumeId,
    /// App.
    pub app: AppId,
    /// Organization.
    pub org: OrgId,
    /// Name.
    pub name: VolumeName,
    /// Code of the region that it was asked for.
    pub region: String,
    /// GiB.
    pub size_gb: u32,
    /// What is to be on it.
    pub fstype: FileSystem,
    /// Days that its snapshots are kept.
    pub snapshot_retention: u32,
    /// It is to have scheduled snapshots.
    pub auto_backup_enabled: bool,
}

/// A volume as its host has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostVolume {
    /// What it is; the size is the present one.
    pub volume: NewVolume,
    /// Its state.
    pub state: State,
    /// The machine that has it.
    pub machine: Option<MachineId>,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// Bytes that its disk takes on the host.
    pub bytes_used: u64,
}

/// Which volumes of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFilter {
    /// Only of this app.
    pub app: Option<AppId>,
    /// Only of this organization.
    pub org: Option<OrgId>,
}

/// A change of what is kept about a volume; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeVolume {
    /// Days that its later snapshots are kept.
    pub snapshot_retention: Option<u32>,
    /// It is to have scheduled snapshots.
    pub auto_backup_enabled: Option<bool>,
}
