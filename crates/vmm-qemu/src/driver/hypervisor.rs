//! `worker::ports::Hypervisor`, on the driver's state.

use crate::cgroup::daemon::DaemonGroup;
use crate::config::{Accelerator, QemuConfig};
use crate::driver::boot::overhead_mib;
use crate::driver::state::Inner;
use crate::process::pidfd;
use crate::snapshot;
use async_trait::async_trait;
use camino::Utf8Path;
use model::id::{BootId, MachineId};
use model::size::cpu_credit::PERIOD;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use worker::ports::{
    BootSpec, CpuTimes, FoundVm, Hypervisor, HypervisorInfo, PortError, QuiesceGuest, SaveTimes,
    Shape, Snapshot, SnapshotSpec, Vm,
};

/// VMs on QEMU microvm, jailed.
#[derive(Debug)]
pub struct QemuHypervisor {
    inner: Arc<Inner>,
    daemon: Mutex<Option<DaemonGroup>>,
}

impl QemuHypervisor {
    /// Checks what the driver needs and which cgroups the host has. Touches no VM.
    ///
    /// # Errors
    /// QEMU cannot be started, or the directory of the VMs cannot be made.
    pub fn open(config: QemuConfig) -> Result<Self, PortError> {
        Ok(Self { inner: Arc::new(Inner::open(config)?), daemon: Mutex::default() })
    }

    /// Makes the calling process the daemon of these VMs, until the driver is
    /// dropped: it gets a cgroup beside theirs with the larger CPU weight, and is
    /// spared when the host runs out of memory. Returns what of that did not work.
    pub fn protect_daemon(&self) -> Vec<String> {
        let (group, problems) = DaemonGroup::enter(&self.inner.cgroups);
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
        problems
    }

    /// The parts of the isolation that this host lacks; empty if there are none.
    pub fn isolation_report(&self) -> Vec<String> {
        let mut report = self.inner.cgroups.warnings().to_vec();
        if self.inner.config.accelerator == Accelerator::Tcg {
            report.push(
                "guests run in software emulation (tcg): they are separated by QEMU and its jail, \
                 not by the processor"
                    .into(),
            );
        }
        report
    }
}

impl Drop for QemuHypervisor {
    fn drop(&mut self) {
        // Closes the monitor connections, so that another driver can open them.
        self.inner.tasks.stop();
    }
}

#[async_trait]
impl Hypervisor for QemuHypervisor {
    async fn boot(&self, spec: BootSpec) -> Result<Vm, PortError> {
        let inner = self.inner.clone();
        // A task of its own: a caller that stops waiting leaves a complete VM or none.
        let booted = self.inner.tasks.spawn(async move { inner.boot(spec).await });
        booted.await.map_err(|err| PortError::new("boot a VM", err))?
    }

    async fn list(&self) -> Result<Vec<FoundVm>, PortError> {
        // Reads directories and `/proc`: a disk that hangs must not stop async threads.
        let inner = self.inner.clone();
        let listed = tokio::task::spawn_blocking(move || inner.list()).await;
        listed.map_err(|err| PortError::new("list VMs", err))?
    }

    async fn adopt(&self, machine: MachineId, boot: BootId) -> Result<Vm, PortError> {
        let _guard = self.inner.lock_boot(boot).await;
        self.inner.attach(&self.inner.dir(machine, boot)).await
    }

    async fn kill(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        let inner = self.inner.clone();
        let killed = self.inner.tasks.spawn(async move {
            let turn = inner.lock_boot(boot).await;
            let done = inner.clear(&inner.dir(machine, boot)).await;
            drop(turn);
            inner.drop_lock(boot);
            done
        });
        killed.await.map_err(|err| PortError::new("kill a VM", err))?
    }

    async fn suspend(
        &self,
        machine: MachineId,
        boot: BootId,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        let inner = self.inner.clone();
        // A task of its own: a caller that stops waiting leaves a snapshot or a running VM.
        let saved = self.inner.tasks.spawn(async move {
            let _guard = inner.lock_boot(boot).await;
            inner.suspend(&inner.dir(machine, boot), to, cancel).await
        });
        saved.await.map_err(|err| PortError::new("suspend a VM", err))?
    }

    async fn resume(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        let _guard = self.inner.lock_boot(boot).await;
        self.inner.resume(&self.inner.dir(machine, boot)).await
    }

    fn snapshot(&self, dir: &Utf8Path) -> Option<Snapshot> {
        snapshot::find(dir)
    }

    fn memory(&self, machine: MachineId, boot: BootId) -> Option<u64> {
        let (pid, _handle) = self.inner.dir(machine, boot).process()?;
        pidfd::proportional_bytes(pid)
    }

    fn reclaim(&self, machine: MachineId, boot: BootId, bytes: u64) -> u64 {
        let held = || self.memory(machine, boot).unwrap_or(0);
        let before = held();
        let name = self.inner.dir(machine, boot).name();
        if let Err(err) = self.inner.cgroups.reclaim(&name, bytes) {
            tracing::debug!(%machine, error = %err, "reclaim the memory of a VM");
        }
        before.saturating_sub(held())
    }

    fn cpu_times(&self, machine: MachineId, boot: BootId) -> Option<CpuTimes> {
        let dir = self.inner.dir(machine, boot);
        let (pid, _handle) = dir.process()?;
        let used = pidfd::cpu_time(pid)?;
        Some(CpuTimes { used, throttled: self.inner.cgroups.throttled(&dir.name())? })
    }

    fn limit_cpu(
        &self,
        machine: MachineId,
        boot: BootId,
        quota: Option<Duration>,
    ) -> Result<(), PortError> {
        let dir = self.inner.dir(machine, boot);
        let quota = quota.map(|quota| (quota, PERIOD));
        let limit = |vcpus| self.inner.cgroups.limit_cpu(&dir.name(), quota, vcpus);
        let set = dir.description().and_then(|vm| limit(vm.vcpus));
        set.map_err(|err| PortError::new(format!("limit the CPU time of {}", dir.name()), err))
    }

    fn has_template(&self, shape: Shape) -> bool {
        let platform = self.inner.known_platform();
        platform.is_some_and(|platform| self.inner.templates.has(&platform, shape))
    }

    fn templates(&self) -> Vec<Shape> {
        let platform = self.inner.known_platform();
        platform.map_or(Vec::new(), |platform| self.inner.templates.all(&platform))
    }

    async fn make_template(&self, shape: Shape, quiesce: QuiesceGuest) -> Result<(), PortError> {
        let inner = self.inner.clone();
        let made = self.inner.tasks.spawn(async move { inner.make_template(shape, quiesce).await });
        made.await.map_err(|err| PortError::new("make a template", err))?
    }

    fn overhead_mib(&self, vcpus: u32) -> u32 {
        overhead_mib(self.inner.config.accelerator, vcpus)
    }

    fn about(&self) -> HypervisorInfo {
        HypervisorInfo {
            accelerator: self.inner.config.accelerator.as_str().into(),
            version: format!("QEMU {}", self.inner.version),
        }
    }
}
