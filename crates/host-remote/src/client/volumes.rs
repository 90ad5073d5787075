//! The calls about volumes.

use super::RemoteHost;
use async_trait::async_trait;
use host_api::{
    CallContext, ChangeVolume, HostError, HostVolume, NewVolume, VolumeFilter, Volumes,
};
use model::id::VolumeId;

#[async_trait]
impl Volumes for RemoteHost {
    async fn create_volume(
        &self,
        context: CallContext,
        volume: NewVolume,
    ) -> Result<HostVolume, HostError> {
        self.unary("create_volume", context, &(volume,)).await?
    }

    async fn volume(&self, context: CallContext, id: VolumeId) -> Result<HostVolume, HostError> {
        self.unary("volume", context, &(id,)).await?
    }

    async fn volumes(
        &self,
        context: CallContext,
        filter: VolumeFilter,
    ) -> Result<Vec<HostVolume>, HostError> {
        self.unary("volumes", context, &(filter,)).await?
    }

    async fn change_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        change: ChangeVolume,
    ) -> Result<HostVolume, HostError> {
        self.unary("change_volume", context, &(id, change)).await?
    }

    async fn extend_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        size_gb: u32,
    ) -> Result<(HostVolume, bool), HostError> {
        self.unary("extend_volume", context, &(id, size_gb)).await?
    }

    async fn destroy_volume(&self, context: CallContext, id: VolumeId) -> Result<(), HostError> {
        self.unary("destroy_volume", context, &(id,)).await?
    }
}
