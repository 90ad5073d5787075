//! `Volumes` of the host in memory: disks without content, attached as the real ones are.

use super::FakeHost;
use async_trait::async_trait;
use host_api::{
    CallContext, ChangeVolume, HostError, HostVolume, NewVolume, VolumeFilter, Volumes,
};
use model::id::{AppId, MachineId, VolumeId};
use model::volume::State;
use std::collections::BTreeSet;
use wire::machines::MachineConfig;

#[async_trait]
impl Volumes for FakeHost {
    async fn create_volume(
        &self,
        context: CallContext,
        volume: NewVolume,
    ) -> Result<HostVolume, HostError> {
        self.enter_call("create_volume", &context).await?;
        let made = self.make_volume(volume)?;
        self.leave_call("create_volume").await?;
        Ok(made)
    }

    async fn volume(&self, context: CallContext, id: VolumeId) -> Result<HostVolume, HostError> {
        self.enter_call("volume", &context).await?;
        self.lock().volumes.get(&id).cloned().ok_or_else(|| not_found(id))
    }

    async fn volumes(
        &self,
        context: CallContext,
        filter: VolumeFilter,
    ) -> Result<Vec<HostVolume>, HostError> {
        self.enter_call("volumes", &context).await?;
        let mut found: Vec<HostVolume> = self.lock().volumes.values().cloned().collect();
        found.retain(|found| {
            filter.app.is_none_or(|app| app == found.volume.app)
                && filter.org.is_none_or(|org| org == found.volume.org)
        });
        found.sort_by_key(|found| found.created_ms);
        Ok(found)
    }

    async fn change_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        change: ChangeVolume,
    ) -> Result<HostVolume, HostError> {
        self.enter_call("change_volume", &context).await?;
        let mut state = self.lock();
        let found = state.volumes.get_mut(&id).ok_or_else(|| not_found(id))?;
        let volume = &mut found.volume;
        volume.snapshot_retention = change.snapshot_retention.unwrap_or(volume.snapshot_retention);
        volume.auto_backup_enabled =
            change.auto_backup_enabled.unwrap_or(volume.auto_backup_enabled);
        Ok(found.clone())
    }

    async fn extend_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        size_gb: u32,
    ) -> Result<(HostVolume, bool), HostError> {
        self.enter_call("extend_volume", &context).await?;
        let mut state = self.lock();
        let found = state.volumes.get(&id).cloned().ok_or_else(|| not_found(id))?;
        let now = found.volume.size_gb;
        if size_gb < now {
            return Err(HostError::Invalid(format!("volume {id} cannot be made smaller")));
        }
        let used: u32 = state.volumes.values().map(|found| found.volume.size_gb).sum();
        if used - now + size_gb > state.volume_room_gb {
            return Err(HostError::NoCapacity("the host has no room for the volume".into()));
        }
        let machine = found.machine.and_then(|machine| state.machines.get(&machine));
        let runs = machine.is_some_and(|kept| kept.state.holds_memory());
        let extended =
            HostVolume { volume: NewVolume { size_gb, ..found.volume.clone() }, ..found };
        state.volumes.insert(id, extended.clone());
        Ok((extended, runs && size_gb > now))
    }

    async fn destroy_volume(&self, context: CallContext, id: VolumeId) -> Result<(), HostError> {
        self.enter_call("destroy_volume", &context).await?;
        let found = self.lock().volumes.get(&id).cloned().ok_or_else(|| not_found(id))?;
        if let Some(machine) = found.machine {
            let why = format!("volume {id} is attached to machine {machine}");
            return Err(HostError::Conflict(why));
        }
        self.note(format!("destroy_volume {id}"));
        self.lock().volumes.remove(&id);
        self.leave_call("destroy_volume").await
    }
}

fn not_found(id: VolumeId) -> HostError {
    HostError::NotFound(format!("volume not found: {id}"))
}

impl FakeHost {
    /// GiB that there are for volumes.
    pub fn set_volume_room(&self, gb: u32) {
        self.lock().volume_room_gb = gb;
    }

    /// As if the volume had never been.
    pub fn lose_volume(&self, id: VolumeId) {
        self.lock().volumes.remove(&id);
    }

    /// The volumes that are there.
    pub fn volume_ids(&self) -> Vec<VolumeId> {
        self.lock().volumes.keys().copied().collect()
    }

    fn make_volume(&self, volume: NewVolume) -> Result<HostVolume, HostError> {
        let (id, created_ms) = (volume.id, self.now_ms());
        let mut state = self.lock();
        if let Some(found) = state.volumes.get(&id) {
            let size_gb = found.volume.size_gb;
            return match found.volume == (NewVolume { size_gb, ..volume }) {
                true => Ok(found.clone()),
                false => Err(HostError::Conflict(format!("another volume {id} exists"))),
            };
        }
        let used: u32 = state.volumes.values().map(|found| found.volume.size_gb).sum();
        if used + volume.size_gb > state.volume_room_gb {
            return Err(HostError::NoCapacity("the host has no room for the volume".into()));
        }
        let made =
            HostVolume { volume, state: State::Created, machine: None, created_ms, bytes_used: 0 };
        state.volumes.insert(id, made.clone());
        drop(state);
        self.note(format!("create_volume {id}"));
        Ok(made)
    }

    /// Attaches the volumes of a config to a machine and detaches its others, or does nothing.
    pub(super) fn attach_volumes(
        &self,
        (machine, app): (MachineId, AppId),
        config: &MachineConfig,
    ) -> Result<(), HostError> {
        let wanted = config.mounts.iter().flatten().filter_map(|mount| mount.volume.as_ref());
        let wanted: BTreeSet<VolumeId> = wanted.filter_map(|id| id.parse().ok()).collect();
        let mut state = self.lock();
        for id in &wanted {
            let found = state.volumes.get(id).filter(|found| found.volume.app == app);
            let found = found.ok_or_else(|| HostError::Conflict(format!("no volume {id}")))?;
            if let Some(other) = found.machine.filter(|other| *other != machine) {
                let why = format!("volume {id} is attached to machine {other}");
                return Err(HostError::Conflict(why));
            }
        }
        for (id, found) in &mut state.volumes {
            if wanted.contains(id) {
                found.machine = Some(machine);
            } else if found.machine == Some(machine) {
                found.machine = None;
            }
        }
        Ok(())
    }

    /// The machine is destroyed.
    pub(super) fn detach_volumes(&self, machine: MachineId) {
        for found in self.lock().volumes.values_mut() {
            if found.machine == Some(machine) {
                found.machine = None;
            }
        }
    }
}
