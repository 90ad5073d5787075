//! Writes the snapshot of a VM, and resumes a VM without its snapshot.

use super::snapshot::SnapshotNote;
use crate::agent::{Agent, Ports};
use crate::context::{HostContext, blocking};
use crate::machine::boot::adopt::{self, Adopted};
use crate::machine::boot::launched::LaunchError;
use crate::ports::{SaveTimes, SnapshotSpec};
use crate::record::Record;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a VM was not suspended.
pub(in super::super) struct SaveError {
    pub(super) why: String,
    /// The guest was not touched: its session stays open.
    pub(super) untouched: bool,
}

/// Writes the snapshot of a VM, which is paused after that.
pub(super) async fn save(
    host: Arc<HostContext>,
    record: Record,
    (agent, ports): (Arc<Agent>, watch::Receiver<Ports>),
    cancel: CancellationToken,
) -> Result<SaveTimes, SaveError> {
    let aborted = |untouched| SaveError { why: "it was aborted".into(), untouched };
    let failed = |why: String| SaveError { why, untouched: false };
    let boot = record.boot.ok_or_else(|| failed("it has no VM".into()))?;
    // A machine that waits for its turn keeps running.
    let turn = cancel.run_until_cancelled(host.snapshot_writers.clone().acquire_owned()).await;
    let _turn = turn.ok_or_else(|| aborted(true))?.map_err(|err| failed(err.to_string()))?;
    let quiesced = cancel.run_until_cancelled(agent.quiesce()).await;
    quiesced.ok_or_else(|| aborted(false))?.map_err(|err| failed(rt::chain(&err)))?;
    let disk = host.disk_path(&record);
    let length = blocking(move || std::fs::metadata(disk).map(|meta| meta.len())).await;
    let length = length.map_err(|err| failed(format!("its disk cannot be read: {err}")))?;
    let note = SnapshotNote::new(&record, length, ports.borrow().clone()).to_json();
    let to = SnapshotSpec { dir: host.snapshot_dir(record.id), note };
    let saved = host.hypervisor.suspend(record.id, boot, to, cancel).await;
    saved.map_err(|err| failed(rt::chain(&err)))
}

/// Removes the snapshot of a paused VM, ends its session and takes it over again.
pub(super) async fn discard_and_resume(
    host: Arc<HostContext>,
    record: Record,
    agent: Option<Arc<Agent>>,
    cancel: CancellationToken,
) -> Result<Adopted, LaunchError> {
    let boot = record.boot.ok_or(LaunchError::Cancelled)?;
    // First, and durably: once the VM runs, its disk no longer belongs to the
    // snapshot. If the snapshot cannot be removed, the VM is removed and restored.
    let removed = host.remove_snapshot(record.id).await;
    removed.map_err(|err| LaunchError::of(&err))?;
    if let Some(agent) = agent {
        agent.close().await;
    }
    adopt::adopt(host, record, boot, cancel).await
}
