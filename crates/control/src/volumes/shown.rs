//! Volumes as clients see them.

use host_api::HostVolume;
use model::id::{HostId, VolumeId};
use model::volume::State;
use rt::clock::rfc3339;
use store::records::VolumeRecord;
use wire::machines::Volume;

/// Bytes of a block of a volume's file system.
const BLOCK: u64 = 4096;

/// A volume as its host has it.
pub(super) fn of_host(host: HostId, found: &HostVolume) -> Volume {
    let HostVolume { volume, state, machine, created_ms, bytes_used } = found;
    Volume {
        id: volume.id.to_string(),
        name: volume.name.to_string(),
        state: state.to_string(),
        size_gb: volume.size_gb,
        region: volume.region.clone(),
        zone: zone(host),
        attached_machine_id: machine.map(|machine| machine.to_string()),
        created_at: rfc3339(*created_ms),
        block_size: BLOCK,
        bytes_total: bytes(volume.size_gb),
        bytes_used: *bytes_used,
        fstype: volume.fstype.as_str().into(),
        snapshot_retention: volume.snapshot_retention,
        auto_backup_enabled: volume.auto_backup_enabled,
        host_status: "ok".into(),
        kind: "local".into(),
        ..Volume::default()
    }
}

/// A volume whose host cannot be asked, or does not have it (any more).
pub(super) fn of_record(id: VolumeId, record: &VolumeRecord, host_status: &str) -> Volume {
    let state = match (record.destroying, record.created) {
        (true, _) => State::PendingDestroy,
        (false, true) => State::Created,
        (false, false) => State::Creating,
    };
    Volume {
        id: id.to_string(),
        name: record.name.to_string(),
        state: state.to_string(),
        size_gb: record.size_gb,
        region: record.region.clone(),
        zone: zone(record.host),
        created_at: rfc3339(record.claimed_ms),
        block_size: BLOCK,
        bytes_total: bytes(record.size_gb),
        fstype: record.fstype.as_str().into(),
        snapshot_retention: record.snapshot_retention,
        auto_backup_enabled: record.auto_backup_enabled,
        host_status: host_status.into(),
        kind: "local".into(),
        ..Volume::default()
    }
}

/// The identity of a host, as volumes show it.
fn zone(host: HostId) -> String {
    format!("{:04x}", host.0)
}

fn bytes(size_gb: u32) -> u64 {
    u64::from(size_gb) << 30
}
