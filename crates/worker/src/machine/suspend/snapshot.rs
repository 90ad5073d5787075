//! The snapshot of a suspended machine: its files, and whether it may be restored.

use crate::context::{HostContext, blocking, remove_dir};
use crate::ports::PortError;
use crate::record::Record;
use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// The data that is kept with a snapshot: what a restore needs, and what must not have
/// changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct SnapshotNote {
    instance: String,
    /// Digest of the root image.
    image: String,
    /// File of the writable layer and its size.
    scratch: String,
    scratch_bytes: u64,
    /// Ports that listened and could be reached.
    pub(in super::super) listening: BTreeSet<u16>,
}

impl SnapshotNote {
    /// `scratch_bytes` is the size that the disk has.
    pub(in super::super) fn new(
        record: &Record,
        scratch_bytes: u64,
        listening: BTreeSet<u16>,
    ) -> Self {
        Self {
            instance: record.instance.to_string(),
            image: record.image.digest.clone(),
            scratch: record.scratch_name(),
            scratch_bytes,
            listening,
        }
    }

    pub(in super::super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data serializes")
    }

    /// Why the snapshot does not belong to the machine as it is now, if so.
    fn mismatch(&self, record: &Record, dir: &Utf8Path) -> Option<&'static str> {
        let length = std::fs::metadata(dir.join(&self.scratch)).map(|meta| meta.len());
        let checks = [
            (
                self.instance != record.instance.to_string(),
                "the config has changed since the snapshot was taken",
            ),
            (
                self.image != record.image.digest,
                "the image has changed since the snapshot was taken",
            ),
            (
                self.scratch != record.scratch_name(),
                "the disk has been replaced since the snapshot was taken",
            ),
            (length.ok() != Some(self.scratch_bytes), "its disk is missing or of another size"),
        ];
        checks.into_iter().find_map(|(wrong, why)| wrong.then_some(why))
    }
}

/// The snapshot of one run in the machine's directory, or why there is none that
/// can be restored.
pub(in super::super) async fn find(
    host: &Arc<HostContext>,
    record: &Record,
    boot: BootId,
) -> Result<SnapshotNote, String> {
    let (host, record) = (host.clone(), record.clone());
    let found = blocking(move || Ok(read(&host, &record, boot))).await;
    found.unwrap_or_else(|err| Err(format!("its snapshot cannot be read: {err}")))
}

fn read(host: &HostContext, record: &Record, boot: BootId) -> Result<SnapshotNote, String> {
    let found = host.hypervisor.snapshot(&host.snapshot_dir(record.id));
    let snapshot = found.ok_or("its snapshot is missing")?;
    if snapshot.boot != boot {
        return Err("its snapshot is of another run".into());
    }
    let note: SnapshotNote = serde_json::from_str(&snapshot.note)
        .map_err(|err| format!("the note of its snapshot does not parse: {err}"))?;
    let mismatch = note.mismatch(record, &host.machine_dir(record.id));
    mismatch.map_or(Ok(note), |why| Err(why.into()))
}

impl HostContext {
    pub(crate) fn snapshot_dir(&self, id: MachineId) -> Utf8PathBuf {
        self.machine_dir(id).join("suspend")
    }

    /// Whether any file of a snapshot exists, complete or not.
    pub(crate) async fn has_snapshot_files(&self, id: MachineId) -> bool {
        let dir = self.snapshot_dir(id);
        // It does not fail; what is there is found when it is removed.
        let found = blocking(move || Ok(dir.exists() || removed_name(&dir).exists())).await;
        found.unwrap_or(true)
    }

    /// The snapshot of this run exists and is complete.
    pub(crate) async fn is_saved(&self, id: MachineId, boot: BootId) -> bool {
        let (hypervisor, dir) = (self.hypervisor.clone(), self.snapshot_dir(id));
        let found = blocking(move || Ok(hypervisor.snapshot(&dir))).await;
        found.ok().flatten().is_some_and(|snapshot| snapshot.boot == boot)
    }

    /// Removes a snapshot durably: once this returns none is found, also after a power
    /// cut. A crash meanwhile leaves it complete or not to be found.
    pub(in super::super) async fn remove_snapshot(
        self: &Arc<Self>,
        id: MachineId,
    ) -> Result<(), PortError> {
        let dir = self.snapshot_dir(id);
        let path = dir.clone();
        let removed = blocking(move || remove(&path)).await;
        removed.map_err(|err| PortError::new(format!("remove snapshot {dir}"), err))
    }
}

fn removed_name(dir: &Utf8Path) -> Utf8PathBuf {
    dir.with_extension("gone")
}

fn remove(dir: &Utf8Path) -> io::Result<()> {
    let removed = removed_name(dir);
    // Left by an earlier removal that was cut off.
    remove_dir(&removed)?;
    match std::fs::rename(dir, &removed) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    if let Some(parent) = dir.parent().filter(|parent| parent.exists()) {
        rt::fs::sync_dir(parent.as_std_path())?;
    }
    remove_dir(&removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use model::id::InstanceId;

    #[test]
    fn a_snapshot_belongs_to_one_config_and_one_disk() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let record = sample();
        let note = SnapshotNote::new(&record, record.scratch_bytes(), [80].into());
        let back: SnapshotNote = serde_json::from_str(&note.to_json()).unwrap();
        assert_eq!(back, note);
        assert!(note.mismatch(&record, dir).unwrap().contains("disk is missing"));
        let disk = std::fs::File::create(dir.join(record.scratch_name())).unwrap();
        disk.set_len(record.scratch_bytes()).unwrap();
        assert_eq!(note.mismatch(&record, dir), None);
        let newer = Record { instance: InstanceId::new(9, 9), ..record.clone() };
        assert_eq!(
            note.mismatch(&newer, dir),
            Some("the config has changed since the snapshot was taken")
        );
        let mut other = record;
        other.image.digest = "sha256:other".into();
        assert_eq!(
            note.mismatch(&other, dir),
            Some("the image has changed since the snapshot was taken")
        );
    }

    #[test]
    fn removal_of_what_is_not_there_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap().join("m");
        remove(&dir.join("suspend")).unwrap();
        std::fs::create_dir_all(dir.join("suspend/deep")).unwrap();
        std::fs::create_dir_all(dir.join("suspend.gone/older")).unwrap();
        remove(&dir.join("suspend")).unwrap();
        assert_eq!(dir.read_dir_utf8().unwrap().count(), 0);
    }
}
