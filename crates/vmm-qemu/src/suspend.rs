//! Writing a VM down and letting one go on.
//!
//! ```text
//!  guest runs │ draft: room, and a copy of what it shares with others
//!  ───────────┼─ pause ───────────────────────────────────────────────
//!  stands     │ devices (QEMU) and touched pages (we), at the same time
//!  still      │ sync, checksum, manifest: from here on it is a snapshot
//! ```
//!
//! It can be given up anywhere: nothing that the guest sees has changed, so it
//! goes on. A note in the boot's directory says where a snapshot is being made,
//! so that also a later daemon makes it void before the guest goes on: a snapshot
//! of a guest that ran afterwards would undo what it wrote to its disks.

use crate::bootdir::BootDir;
use crate::driver::Inner;
use crate::monitor::{Control, Wish};
use crate::snapshot::{self, Draft};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use worker::ports::{PortError, SaveTimes, SnapshotSpec};

impl Inner {
    /// Writes a VM down and leaves it standing still; after an error it goes on.
    pub(crate) async fn suspend(
        &self,
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
            // What it returns counts less than why it was given up.
            if let Err(err) = self.go_on(dir, &control).await {
                tracing::error!(vm = dir.name(), error = %rt::chain(&err), "a VM stands still");
            }
        }
        saved.map_err(failed)
    }

    async fn save(
        &self,
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
        control.ask(Wish::Pause).await?;
        let (memory, token) = (draft.clone(), cancel.clone());
        let (devices, memory) = tokio::join!(
            control.ask(Wish::SaveDevices(state)),
            blocking(move || memory.write_memory(&token))
        );
        devices?;
        let written = memory?;
        let saved = Instant::now();
        let platform = self.platform().map_err(io::Error::other)?;
        let (boot, vm) = (dir.boot, dir.description()?);
        blocking(move || draft.finish(&platform, boot, to.note, vm)).await?;
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

    /// Lets a guest run that stands still, for whichever reason.
    pub(crate) async fn proceed(&self, dir: &BootDir) -> Result<(), PortError> {
        let failed = |err: io::Error| PortError::new(format!("run VM {}", dir.name()), err);
        let control = self.control(dir)?;
        // Before it runs: one that may have run must never be taken for one that
        // has not, or what it wrote would be undone.
        dir.end_wait().map_err(failed)?;
        self.go_on(dir, &control).await?;
        control.ask(Wish::Proceed).await.map_err(failed)
    }

    /// Gives up a snapshot of this VM, if one is being made or was made, and
    /// lets it go on. Nothing to do otherwise.
    pub(crate) async fn go_on(&self, dir: &BootDir, control: &Control) -> Result<(), PortError> {
        let Some(snapshot) = dir.saving() else { return Ok(()) };
        let failed = |err: io::Error| PortError::new(format!("run VM {}", dir.name()), err);
        blocking(move || snapshot::invalidate(&snapshot)).await.map_err(failed)?;
        dir.end_save().map_err(failed)?;
        control.ask(Wish::Proceed).await.map_err(failed)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
