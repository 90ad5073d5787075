//! Suspending and resuming VMs.
//!
//! ```text
//!  guest runs │ draft: space on the disk, and a copy of the pages shared with others
//!  ───────────┼─ pause ─────────────────────────────────────────────────────────────
//!  paused     │ devices (QEMU) and private pages (the driver), at the same time
//!             │ sync, checksum, manifest: from here on it is a snapshot
//! ```
//!
//! A suspend can be cancelled anywhere: nothing that the guest sees has changed, so
//! the VM is resumed. A file in the boot's directory records where a snapshot is
//! being written, so that a later daemon, too, invalidates it before the guest runs:
//! a snapshot of a guest that ran afterwards would undo what it wrote to its disks.

use crate::driver::state::{Inner, blocking};
use crate::monitor::{Control, MonitorCommand};
use crate::process::boot_dir::BootDir;
use crate::snapshot::{self, Draft};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use worker::ports::{PortError, SaveTimes, SnapshotSpec};

impl Inner {
    /// Writes a snapshot of a VM and leaves it paused; after an error it is resumed.
    pub(crate) async fn suspend(
        self: &Arc<Self>,
        dir: &BootDir,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        let failed = |err: io::Error| PortError::new(format!("suspend VM {}", dir.name()), err);
        let (pid, _handle) =
            dir.process().ok_or_else(|| failed(io::Error::other("it does not run")))?;
        let control = self.control(dir)?;
        dir.begin_save(&to.dir).map_err(failed)?;
        let saved = self.save(dir, pid, &control, to, &cancel).await;
        if saved.is_err() {
            // The error of the suspend is what the caller gets.
            if let Err(err) = self.abandon_snapshot(dir, &control).await {
                tracing::error!(vm = dir.name(), error = %rt::chain(&err), "a VM stays paused");
            }
        }
        saved.map_err(failed)
    }

    async fn save(
        self: &Arc<Self>,
        dir: &BootDir,
        pid: u32,
        control: &Control,
        to: SnapshotSpec,
        cancel: &CancellationToken,
    ) -> io::Result<SaveTimes> {
        let began = Instant::now();
        let (path, token) = (to.dir.clone(), cancel.clone());
        let draft = blocking(move || Draft::begin(&path, pid, &token)).await?;
        let draft = Arc::new(draft);
        let state = draft.state_file()?;
        let prepared = Instant::now();
        control.send(MonitorCommand::Pause).await?;
        let (memory, token) = (draft.clone(), cancel.clone());
        let (devices, memory) = tokio::join!(
            control.send(MonitorCommand::SaveDevices(state)),
            blocking(move || memory.write_memory(&token))
        );
        devices?;
        let written = memory?;
        let saved = Instant::now();
        let (inner, boot, vm) = (self.clone(), dir.boot, dir.description()?);
        let finish = move || {
            let platform = inner.platform().map_err(io::Error::other)?;
            draft.finish(&platform, boot, to.note, vm)
        };
        blocking(finish).await?;
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(SaveTimes {
            prepare_ms: ms(prepared - began),
            save_ms: ms(saved - prepared),
            sync_ms: ms(saved.elapsed()),
            written_mib: written as f64 / f64::from(1 << 20),
        })
    }

    /// Resumes a paused VM.
    pub(crate) async fn resume(&self, dir: &BootDir) -> Result<(), PortError> {
        let failed = |err: io::Error| PortError::new(format!("run VM {}", dir.name()), err);
        let control = self.control(dir)?;
        // Before it runs: one that may have run must never be taken for one that
        // has not, or what it wrote would be undone.
        dir.clear_unstarted().map_err(failed)?;
        self.abandon_snapshot(dir, &control).await?;
        control.send(MonitorCommand::Resume).await.map_err(failed)
    }

    /// Invalidates the snapshot of this VM, if one is being written or was written,
    /// and resumes the VM. Does nothing otherwise.
    pub(crate) async fn abandon_snapshot(
        &self,
        dir: &BootDir,
        control: &Control,
    ) -> Result<(), PortError> {
        let Some(snapshot) = dir.saving() else { return Ok(()) };
        let failed = |err: io::Error| PortError::new(format!("run VM {}", dir.name()), err);
        blocking(move || snapshot::invalidate(&snapshot)).await.map_err(failed)?;
        dir.end_save().map_err(failed)?;
        control.send(MonitorCommand::Resume).await.map_err(failed)
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
