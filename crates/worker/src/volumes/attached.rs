//! The volumes that a boot is given.

use crate::context::{HostContext, blocking};
use crate::record::Record;
use camino::{Utf8Path, Utf8PathBuf};
use guest_protocol::{Device, VolumeMount};
use model::id::VolumeId;
use model::volume::FileSystem;
use std::io;

/// A volume of a machine that is about to have a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachedVolume {
    /// Its disk.
    pub(crate) disk: Utf8PathBuf,
    fstype: FileSystem,
    /// Where the guest has it.
    path: String,
}

/// Whether disks take the size of their volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// They grow to it: the guest has not seen them yet.
    ToSize,
    /// They stay as the guest has seen them.
    None,
}

/// The volumes of a machine, in the order of its config; or why it must not start.
pub(crate) async fn attached(
    host: &HostContext,
    record: &Record,
    growth: Growth,
) -> Result<Vec<AttachedVolume>, String> {
    let mut volumes = Vec::new();
    for mount in record.config.mounts.iter().flatten() {
        let name = mount.volume.clone().unwrap_or_default();
        let id: VolumeId = name.parse().map_err(|err| format!("mount a volume: {err}"))?;
        let row = host.db.volume(id).await.map_err(|err| rt::chain(&err))?;
        let row = row.filter(|row| row.machine == Some(record.id));
        let row = row.ok_or_else(|| format!("volume {id} is not attached to the machine"))?;
        let (disk, bytes) = (host.volume_path(id), row.bytes());
        let path = disk.clone();
        let ready = blocking(move || match growth {
            Growth::ToSize => grow(&path, bytes),
            Growth::None => std::fs::metadata(&path).map(drop),
        });
        ready.await.map_err(|err| format!("open the disk of volume {id}: {err}"))?;
        let path = mount.path.clone().unwrap_or_default();
        volumes.push(AttachedVolume { disk, fstype: row.volume.fstype, path });
    }
    Ok(volumes)
}

/// Extends the disk to the size of its volume; it never shrinks.
fn grow(disk: &Utf8Path, bytes: u64) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(disk)?;
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

/// The volumes as the guest sees them, behind so many images.
pub(crate) fn mounts(volumes: &[AttachedVolume], images: usize) -> Vec<VolumeMount> {
    let mount = |(letter, volume): (char, &AttachedVolume)| VolumeMount {
        device: Device { path: format!("/dev/vd{letter}"), fstype: volume.fstype.as_str().into() },
        path: volume.path.clone(),
    };
    ('c'..='z').skip(images).zip(volumes).map(mount).collect()
}
