//! Makes a VM from its machine's snapshot. It stays paused until it is recorded
//! that the snapshot is used, so that no snapshot is run twice.

use super::launch::{self, StageTimer};
use super::launched::{LaunchError, Launched};
use super::session;
use crate::context::HostContext;
use crate::machine::suspend::snapshot::SnapshotNote;
use crate::ports::{BootSpec, PortError, Vm};
use crate::record::Record;
use crate::volumes::attached::Growth;
use guest_protocol::ToGuest;
use model::id::BootId;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A VM from a snapshot that is still paused.
pub(in super::super) struct RestoredVm {
    pub(super) vm: Vm,
    pub(super) note: SnapshotNote,
    pub(super) stages: Vec<(String, f64)>,
}

/// Why no VM was restored.
pub(in super::super) enum RestoreError {
    /// A cause that would make a boot fail too.
    Launch(LaunchError),
    /// The snapshot cannot be used; `transient`: another try may help.
    Snapshot { why: String, transient: bool },
}

/// Makes a VM from the snapshot. When it fails, the teardown removes everything that it
/// has made.
pub(super) async fn restore(
    host: Arc<HostContext>,
    record: Record,
    boot: BootId,
    note: SnapshotNote,
    cancel: CancellationToken,
) -> Result<RestoredVm, RestoreError> {
    let mut timer = StageTimer::begin();
    let images = launch::images(&host, &record, &cancel).await.map_err(RestoreError::Launch)?;
    timer.done("image");
    let nic = launch::attach(&host, &record).await.map_err(RestoreError::Launch)?;
    timer.done("network");
    if cancel.is_cancelled() {
        return Err(RestoreError::Launch(LaunchError::Cancelled));
    }
    let volumes = launch::volumes(&host, &record, Growth::None).await;
    let volumes = volumes.map_err(RestoreError::Launch)?;
    let scratch = host.machine_dir(record.id).join(record.scratch_name());
    let snapshot = Some(host.snapshot_dir(record.id));
    let spec =
        BootSpec { snapshot, ..launch::spec(&record, boot, &images, (scratch, volumes), nic) };
    let booted = tokio::time::timeout(launch::STEP_TIMEOUT, host.hypervisor.boot(spec)).await;
    let vm = booted
        .unwrap_or_else(|_| Err(timed_out("restore the VM")))
        .map_err(|err| RestoreError::Snapshot { why: rt::chain(&err), transient: err.transient })?;
    timer.done("spawn");
    Ok(RestoredVm { vm, note, stages: timer.stages })
}

/// The hypervisor has not done its part in time.
fn timed_out(what: &str) -> PortError {
    let limit = launch::STEP_TIMEOUT;
    PortError::plain(format!("the host could not {what} within {limit:?}")).transient()
}

/// Resumes the restored VM and opens a session with its guest.
pub(super) async fn resume(
    host: Arc<HostContext>,
    record: Record,
    vm: Vm,
) -> Result<Launched, LaunchError> {
    let resumed = host.hypervisor.resume(record.id, vm.boot);
    let resumed = tokio::time::timeout(launch::STEP_TIMEOUT, resumed).await;
    let resumed = resumed.unwrap_or_else(|_| Err(timed_out("resume the VM")));
    resumed.map_err(|err| LaunchError::of(&err))?;
    let vm = session::send_early(vm, &ToGuest::Awake(host.clock.now_ns())).await;
    let launched = session::open(&host, &record, vm).await;
    let launched = launched.map_err(|err| LaunchError::agent(&err))?;
    session::notify_resumed(&host, &record, &launched.agent, &launched.welcome.phase).await;
    Ok(launched)
}
