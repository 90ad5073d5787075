//! The port to a microVM driver.

use super::PortError;
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use model::id::{BootId, MachineId};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// A microVM driver, as far as the worker needs it.
///
/// Every implementation, the fake too, passes `testkit::hypervisor_contract`:
/// - `boot` twice with one [`BootId`] is one VM; the second call returns it;
/// - a VM outlives the driver: `list` names every VM on the host, also those
///   of an earlier daemon, and `adopt` takes them over while they run;
/// - once `kill` returns, no guest instruction runs and nothing of the boot is
///   left (process, cgroup, files); `kill` of an unknown boot succeeds;
/// - [`Vm::exited`] ends for every VM that ends, however it does;
/// - a VM has a quota of CPU time only while `limit_cpu` has set one;
/// - once `suspend` has returned `Ok`, [`Hypervisor::snapshot`] finds the snapshot,
///   also after a power cut, and the VM is paused until `kill` or `resume`;
///   after an error the VM keeps running and there is no snapshot;
/// - a snapshot that does not fit (damaged, another version) is refused by
///   `boot` before any guest instruction runs.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Starts a VM and returns once its process runs and its agent port is
    /// connected (the guest itself may not have read anything yet). A VM from a
    /// snapshot is paused until [`Hypervisor::resume`].
    async fn boot(&self, spec: BootSpec) -> Result<Vm, PortError>;

    /// Every VM on this host, also one of which only files or groups are left.
    async fn list(&self) -> Result<Vec<FoundVm>, PortError>;

    /// Takes over a VM that runs, or that is paused for a suspend (also one
    /// that was cut off with its daemon: `resume` resumes it). An error means that
    /// it cannot be reached, or that its guest never ran; a transient one may pass.
    async fn adopt(&self, machine: MachineId, boot: BootId) -> Result<Vm, PortError>;

    /// Ends a VM at once and removes everything of this boot; snapshots stay.
    async fn kill(&self, machine: MachineId, boot: BootId) -> Result<(), PortError>;

    /// Writes a snapshot of a VM and leaves the VM paused. Its disks are not part of
    /// the snapshot: they must stay as they are. `cancel` aborts it; then, as after any
    /// other error, the VM keeps running.
    async fn suspend(
        &self,
        machine: MachineId,
        boot: BootId,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError>;

    /// Resumes a paused VM; does nothing to one that runs.
    async fn resume(&self, machine: MachineId, boot: BootId) -> Result<(), PortError>;

    /// The snapshot in `dir`, if there is a whole one. Cheap: its content is
    /// checked by `boot`.
    fn snapshot(&self, dir: &Utf8Path) -> Option<Snapshot>;

    /// Bytes of the host's memory that a VM really holds (its PSS).
    fn memory(&self, machine: MachineId, boot: BootId) -> Option<u64>;

    /// Takes up to `bytes` of the host's memory from a VM, which gets them back when it needs
    /// them; the bytes that it has given up. Blocks.
    fn reclaim(&self, machine: MachineId, boot: BootId, bytes: u64) -> u64;

    /// CPU time of a VM since its boot, that of the VM's own threads included; `None` if it
    /// is not known. Blocks.
    fn cpu_times(&self, machine: MachineId, boot: BootId) -> Option<CpuTimes>;

    /// Limits the CPU time of a VM to `quota` in each [`model::size::cpu_credit::PERIOD`]; `None`
    /// leaves it what its vCPUs can use, as after its boot. Blocks.
    ///
    /// # Errors
    /// There is no such VM, or the host cannot limit it.
    fn limit_cpu(
        &self,
        machine: MachineId,
        boot: BootId,
        quota: Option<Duration>,
    ) -> Result<(), PortError>;

    /// Whether VMs of this shape begin from a template.
    fn has_template(&self, shape: Shape) -> bool;

    /// The shapes of which there is one.
    fn templates(&self) -> Vec<Shape>;

    /// Makes a template for a shape unless there is one: boots a guest, has it
    /// `quiesce`, keeps its memory, and tries it out. Nothing of a machine is
    /// in it.
    async fn make_template(&self, shape: Shape, quiesce: QuiesceGuest) -> Result<(), PortError>;

    /// MiB that a VM with so many vCPUs may use beside its guest's memory.
    fn overhead_mib(&self, vcpus: u32) -> u32 {
        let _ = vcpus;
        0
    }

    /// The isolation of the guests: `kvm` or `tcg`, and the driver's version.
    fn about(&self) -> HypervisorInfo;
}

/// CPU time of a VM since its boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Time that its threads have run.
    pub used: Duration,
    /// Time in which they were held back by a quota.
    pub throttled: Duration,
}

/// Most images of a VM beside its root.
pub const MAX_IMAGES: usize = 15;

/// The size of the machines that a template is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// vCPUs.
    pub vcpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u32,
}

/// Exchanges messages with the guest behind an agent port until the guest reports
/// that it is quiescent. The driver has no protocol of its own: its caller does.
pub type QuiesceGuest =
    Arc<dyn Fn(Box<dyn AgentIo>) -> BoxFuture<'static, Result<(), PortError>> + Send + Sync>;

/// Where a snapshot goes.
#[derive(Clone, Debug)]
pub struct SnapshotSpec {
    /// Directory of its own; made if absent, what is in it is replaced.
    pub dir: Utf8PathBuf,
    /// Kept with the snapshot and returned by [`Hypervisor::snapshot`].
    pub note: String,
}

/// A snapshot that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The run whose memory it holds.
    pub boot: BootId,
    /// As given in [`SnapshotSpec`].
    pub note: String,
}

/// How long the parts of a suspend took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SaveTimes {
    /// While the guest still ran: room made, what is shared with others copied.
    pub prepare_ms: f64,
    /// From the pause of the guest until all of its memory was written.
    pub save_ms: f64,
    /// Until that was durable.
    pub sync_ms: f64,
    /// MiB of memory that were written while it was paused.
    pub written_mib: f64,
}

/// The source that a VM was started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootOrigin {
    /// Restored from the template of its shape.
    Template,
    /// Booted, for this reason.
    Cold(String),
    /// From the snapshot of its spec.
    Snapshot,
    /// It ran already.
    Found,
}

/// The isolation of the guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervisorInfo {
    /// `kvm` or `tcg`, as probed by booting a guest.
    pub accelerator: String,
    /// Such as `QEMU 7.2.22`.
    pub version: String,
}

/// A VM to start. The worker has already made everything it names.
#[derive(Debug)]
pub struct BootSpec {
    /// Whose VM.
    pub machine: MachineId,
    /// Which run of it.
    pub boot: BootId,
    /// vCPUs, at least 1.
    pub vcpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Share of the CPU relative to other VMs, in thousandths of a core.
    pub cpu_weight: u32,
    /// Read-only root image; shown to the guest as `/dev/vda`.
    pub root: Utf8PathBuf,
    /// Writable ext4 image; shown to the guest as `/dev/vdb`.
    pub scratch: Utf8PathBuf,
    /// Further read-only images, at most [`MAX_IMAGES`]; shown to the guest as `/dev/vdc`
    /// and so on.
    pub images: Vec<Utf8PathBuf>,
    /// Writable disks of volumes, at most [`model::volume::MAX_MOUNTS`]; shown to the guest
    /// behind the images.
    pub volumes: Vec<Utf8PathBuf>,
    /// Network card, or none.
    pub nic: Option<Nic>,
    /// Words added to the guest kernel's command line, validated.
    pub kernel_args: Vec<String>,
    /// Restore the snapshot in this directory instead of booting.
    pub snapshot: Option<Utf8PathBuf>,
    /// Boot although there may be a template, for this reason.
    pub cold: Option<String>,
}

/// A network card: an open tap queue and its address.
#[derive(Debug)]
pub struct Nic {
    /// The tap, attached; the VM process keeps it open for as long as it runs.
    pub tap: OwnedFd,
    /// MAC address of the guest's side.
    pub mac: [u8; 6],
}

/// A VM that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVm {
    /// Whose VM.
    pub machine: MachineId,
    /// Which run of it.
    pub boot: BootId,
    /// Its process runs.
    pub alive: bool,
}

/// Both directions of the agent port.
pub trait AgentIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AgentIo for T {}

/// A running VM.
pub struct Vm {
    /// Which run.
    pub boot: BootId,
    /// Process id on the host.
    pub pid: u32,
    /// The source that it was started from.
    pub origin: BootOrigin,
    /// The agent port, connected. See `guest_protocol`.
    pub agent: Box<dyn AgentIo>,
    /// Ends when the VM's process has ended or its guest has stopped for good
    /// (powered off, panicked), with what is known of why. It keeps no
    /// claim on the VM: dropping it leaves the VM running.
    pub exited: BoxFuture<'static, VmExit>,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("boot", &self.boot).field("pid", &self.pid).finish()
    }
}

/// How a VM ended. The worker calls `kill` afterwards in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmExit {
    /// The guest powered itself off.
    pub powered_off: bool,
    /// Signal that ended the VM's process, if known, or 0.
    pub signal: i32,
    /// Last lines of the guest's console and of the VM process, at most 4 KiB,
    /// when it ended otherwise.
    pub console_tail: String,
}

impl VmExit {
    /// Describes the end of a VM whose init has not reported an exit status.
    pub(crate) fn without_status(&self) -> String {
        let what = "the VM ended before its init reported an exit status";
        match self.console_tail.trim() {
            "" => what.into(),
            console => format!("{what}; end of its console: {console}"),
        }
    }
}
