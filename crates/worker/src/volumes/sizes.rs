//! Sizes of volumes, as they are shown in the configs of their machines: a config has the size of
//! its volume from when it was written, and the volume may have been extended since.

use crate::record::Record;
use model::id::VolumeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::machines::MachineConfig;

/// GiB of each volume of the host.
#[derive(Debug, Default)]
pub(crate) struct VolumeSizes(Mutex<BTreeMap<VolumeId, u32>>);

impl VolumeSizes {
    /// Sets the size of a volume; `None` forgets the volume.
    pub(crate) fn set(&self, id: VolumeId, size_gb: Option<u32>) {
        match size_gb {
            Some(size_gb) => self.lock().insert(id, size_gb),
            None => self.lock().remove(&id),
        };
    }

    /// The config of a machine with the sizes that its volumes have.
    pub(crate) fn shown(&self, record: &Record) -> Arc<MachineConfig> {
        let mut config = record.config.clone();
        if config.mounts.as_ref().is_none_or(Vec::is_empty) {
            return config;
        }
        let sizes = self.lock();
        for mount in Arc::make_mut(&mut config).mounts.iter_mut().flatten() {
            let id = mount.volume.as_ref().and_then(|id| id.parse().ok());
            if let Some(size) = id.and_then(|id: VolumeId| sizes.get(&id)) {
                mount.size_gb = Some(*size);
            }
        }
        config
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
