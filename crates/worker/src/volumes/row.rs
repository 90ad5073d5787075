//! A volume as `host.db` has it.

use host_api::NewVolume;
use model::id::MachineId;
use model::volume::State;
use serde::{Deserialize, Serialize};

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeRow {
    /// What it is, with its present size.
    pub(crate) volume: NewVolume,
    pub(crate) state: State,
    /// The machine that has it.
    pub(crate) machine: Option<MachineId>,
    pub(crate) created_ms: u64,
}

/// The stored form of what has no column of its own.
#[derive(Serialize, Deserialize)]
struct Stored {
    volume: NewVolume,
    created_ms: u64,
}

impl VolumeRow {
    pub(crate) fn from_parts(
        state: State,
        machine: Option<MachineId>,
        record: &str,
    ) -> Option<Self> {
        let Stored { volume, created_ms } = serde_json::from_str(record).ok()?;
        Some(Self { volume, state, machine, created_ms })
    }

    pub(crate) fn to_json(&self) -> String {
        let stored = Stored { volume: self.volume.clone(), created_ms: self.created_ms };
        serde_json::to_string(&stored).expect("plain data serializes")
    }

    /// The volume was made by this create. Size and snapshots may have been changed since.
    pub(crate) fn is_of(&self, new: &NewVolume) -> bool {
        let NewVolume { size_gb, snapshot_retention, auto_backup_enabled, .. } = self.volume;
        self.volume == NewVolume { size_gb, snapshot_retention, auto_backup_enabled, ..new.clone() }
    }

    /// Bytes that its disk is to have.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(self.volume.size_gb)
    }
}

/// Bytes of a size.
pub(crate) fn bytes(size_gb: u32) -> u64 {
    u64::from(size_gb) << 30
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::sample;
    use model::id::VolumeId;
    use model::volume::FileSystem;

    /// A volume of the app of [`sample`].
    pub(crate) fn volume(number: u128) -> VolumeRow {
        let machine = sample();
        let volume = NewVolume {
            id: VolumeId::from_random(number),
            app: machine.app,
            org: machine.org,
            name: "data".parse().unwrap(),
            region: "local".into(),
            size_gb: 1,
            fstype: FileSystem::Ext4,
            snapshot_retention: 5,
            auto_backup_enabled: true,
        };
        VolumeRow { volume, state: State::Created, machine: None, created_ms: 7 }
    }

    #[test]
    fn a_stored_volume_is_read_back_unchanged() {
        let row = volume(9);
        let back = VolumeRow::from_parts(row.state, row.machine, &row.to_json());
        assert_eq!(back, Some(row.clone()));
        let grown = NewVolume { size_gb: 2, ..row.volume.clone() };
        assert!(row.is_of(&grown));
        assert!(!row.is_of(&NewVolume { name: "other".parse().unwrap(), ..grown }));
    }
}
