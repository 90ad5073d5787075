//! The port: boots, finds, adopts and kills VMs.
//!
//! Invariant: whatever exists of a boot (directory, cgroup, process) can be
//! found by its name alone, and is made in an order that leaves no process
//! without a directory. So `kill` and `list` need no memory, and a daemon that
//! was killed at any point leaves nothing that the next cannot remove.

use crate::args::TB_MIB;
use crate::bootdir::{self, AGENT, BootDir, QMP};
use crate::cgroup::{Cgroups, Limits};
use crate::config::{Accelerator, QemuConfig, qemu_version};
use crate::launch::{self, Launched, Log};
use crate::monitor::{self, Exit, Running};
use crate::process;
use crate::qmp::Qmp;
use crate::words;
use async_trait::async_trait;
use camino::Utf8Path;
use model::id::{BootId, MachineId};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use worker::ports::{
    BootSpec, FoundVm, Hypervisor, HypervisorInfo, Origin, PortError, SaveTimes, Settle, Shape,
    Snapshot, SnapshotSpec, Vm,
};

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(15);
/// How long a running VM may take to answer a daemon that takes it over.
const ADOPT_WITHIN: Duration = Duration::from_secs(15);
/// Rounds of killing what is in a cgroup: something may be starting meanwhile.
const KILL_ROUNDS: usize = 16;

/// VMs on QEMU microvm, jailed.
#[derive(Debug)]
pub struct QemuHypervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: QemuConfig,
    version: String,
    cgroups: Cgroups,
    tasks: rt::Tasks,
    known: Mutex<HashMap<BootId, Known>>,
    locks: Mutex<HashMap<BootId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A VM that this driver has a monitor connection to.
#[derive(Clone, Debug)]
struct Known {
    exit: Exit,
}

impl QemuHypervisor {
    /// Checks what it needs and takes stock of the host's cgroups. Touches no VM.
    ///
    /// # Errors
    /// QEMU cannot be started, or the directory of the VMs cannot be made.
    pub fn open(mut config: QemuConfig) -> Result<Self, PortError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.run_dir);
        made.map_err(|err| PortError::new(format!("make {}", config.run_dir), err))?;
        let absolute = config.run_dir.canonicalize_utf8();
        config.run_dir =
            absolute.map_err(|err| PortError::new(format!("find {}", config.run_dir), err))?;
        let version = qemu_version(&config.qemu)?;
        // The jail has no alternatives or other links of the host.
        let resolved = config.qemu.canonicalize_utf8();
        config.qemu =
            resolved.map_err(|err| PortError::new(format!("find {}", config.qemu), err))?;
        let cgroups = Cgroups::detect(&config.instance);
        let inner = Inner {
            config,
            version,
            cgroups,
            tasks: rt::Tasks::new(),
            known: Mutex::default(),
            locks: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What isolates VMs less than it could on this host; empty if nothing.
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
        // Lets go of the monitors, so that another driver can have them.
        self.inner.tasks.stop();
    }
}

#[async_trait]
impl Hypervisor for QemuHypervisor {
    async fn boot(&self, spec: BootSpec) -> Result<Vm, PortError> {
        let inner = self.inner.clone();
        // A task of its own: a caller that stops waiting leaves a whole VM or none.
        let booted = self.inner.tasks.spawn(async move { inner.boot(spec).await });
        booted.await.map_err(|err| PortError::new("boot a VM", err))?
    }

    async fn list(&self) -> Result<Vec<FoundVm>, PortError> {
        self.inner.list()
    }

    async fn adopt(&self, machine: MachineId, boot: BootId) -> Result<Vm, PortError> {
        let _turn = self.inner.turn(boot).await;
        self.inner.attach(&self.inner.dir(machine, boot)).await
    }

    async fn kill(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        let inner = self.inner.clone();
        let killed = self.inner.tasks.spawn(async move {
            let turn = inner.turn(boot).await;
            let done = inner.clear(&inner.dir(machine, boot)).await;
            drop(turn);
            inner.forget_turn(boot);
            done
        });
        killed.await.map_err(|err| PortError::new("kill a VM", err))?
    }

    async fn suspend(
        &self,
        _machine: MachineId,
        _boot: BootId,
        _to: SnapshotSpec,
        _cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        Err(PortError::plain("not yet"))
    }

    async fn proceed(&self, _machine: MachineId, _boot: BootId) -> Result<(), PortError> {
        Err(PortError::plain("not yet"))
    }

    fn snapshot(&self, _dir: &Utf8Path) -> Option<Snapshot> {
        None
    }

    fn memory(&self, _machine: MachineId, _boot: BootId) -> Option<u64> {
        None
    }

    fn has_template(&self, _shape: Shape) -> bool {
        false
    }

    async fn make_template(&self, _shape: Shape, _settle: Settle) -> Result<(), PortError> {
        Err(PortError::plain("not yet"))
    }

    fn about(&self) -> HypervisorInfo {
        HypervisorInfo {
            accelerator: self.inner.config.accelerator.as_str().into(),
            version: format!("QEMU {}", self.inner.version),
        }
    }
}

impl Inner {
    async fn boot(&self, spec: BootSpec) -> Result<Vm, PortError> {
        let _turn = self.turn(spec.boot).await;
        let dir = self.dir(spec.machine, spec.boot);
        if dir.process().is_some() {
            return self.attach(&dir).await;
        }
        self.clear(&dir).await?;
        let problem = match self.start(&dir, spec).await {
            Ok(vm) => return Ok(vm),
            Err(err) => err,
        };
        if let Err(err) = self.clear(&dir).await {
            tracing::error!(vm = dir.name(), error = %rt::chain(&err), "remains of a failed boot");
        }
        Err(problem)
    }

    async fn start(&self, dir: &BootDir, spec: BootSpec) -> Result<Vm, PortError> {
        let failed =
            |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
        dir.create().map_err(|err| failed("make directory", err))?;
        let cgroups = self.cgroups.create(&dir.name(), self.limits(&spec));
        let cgroups = cgroups.map_err(|err| failed("make cgroups", err))?;
        let launched = {
            let (config, dir) = (self.config.clone(), dir.clone());
            let work = move || launch::launch(&config, &dir, &spec, cgroups);
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|err| PortError::new("start the launcher", err))??
        };
        let connected = async {
            let qmp = dir.connect(QMP)?;
            let agent = dir.connect(AGENT)?;
            Ok::<_, io::Error>((Qmp::open(qmp).await?, agent))
        };
        match tokio::time::timeout(self.config.start_deadline, connected).await {
            Ok(Ok((qmp, agent))) => self.watch(dir.boot, launched, qmp, agent),
            Ok(Err(err)) => Err(self.failure(dir, &launched, err).await),
            Err(_) => Err(self.failure(dir, &launched, io::ErrorKind::TimedOut.into()).await),
        }
    }

    /// Why a start failed: what the process said counts more than the
    /// connection that broke.
    async fn failure(&self, dir: &BootDir, launched: &Launched, err: io::Error) -> PortError {
        if let Err(err) = process::kill_and_wait(&launched.handle, GONE_WITHIN).await {
            tracing::error!(vm = dir.name(), error = %rt::chain(&err), "cannot end a failed boot");
        }
        let said = words::tail(&launched.log.text());
        let attempted = format!("start VM {}", dir.name());
        match said.is_empty() {
            true => PortError::new(attempted, err).transient(),
            false => PortError::new(attempted, said).transient(),
        }
    }

    /// Takes a VM that runs, by its directory.
    async fn attach(&self, dir: &BootDir) -> Result<Vm, PortError> {
        let failed =
            |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
        let Some((pid, handle)) = dir.process() else {
            return Err(PortError::plain(format!("VM {} does not run", dir.name())));
        };
        let agent = dir.connect(AGENT).map_err(|err| failed("connect to the agent port", err))?;
        let known = self.known().get(&dir.boot).cloned();
        if let Some(known) = known {
            let exited = known.exit.wait(handle);
            return Ok(Vm {
                boot: dir.boot,
                pid,
                origin: Origin::Found,
                agent: Box::new(agent),
                exited,
            });
        }
        let log = Log::of(pid).map_err(|err| failed("open the log", err))?;
        let connected = async { Qmp::open(dir.connect(QMP)?).await };
        let qmp = tokio::time::timeout(ADOPT_WITHIN, connected).await;
        let qmp =
            qmp.map_err(|_| PortError::plain(format!("the monitor of {} is silent", dir.name())))?;
        let qmp = qmp.map_err(|err| failed("talk to the monitor", err))?;
        self.watch(dir.boot, Launched { pid, handle, log }, qmp, agent)
    }

    /// Begins to watch a VM that answers.
    fn watch(
        &self,
        boot: BootId,
        vm: Launched,
        qmp: Qmp,
        agent: tokio::net::UnixStream,
    ) -> Result<Vm, PortError> {
        let Launched { pid, handle, log } = vm;
        let again = handle.try_clone().map_err(|err| PortError::new("hold a VM's process", err))?;
        let (sender, exit) = Exit::channel();
        self.known().insert(boot, Known { exit: exit.clone() });
        self.tasks.spawn_until_stop(monitor::watch(Running { pid, handle, log }, qmp, sender));
        Ok(Vm {
            boot,
            pid,
            origin: Origin::Found,
            agent: Box::new(agent),
            exited: exit.wait(again),
        })
    }

    fn list(&self) -> Result<Vec<FoundVm>, PortError> {
        let run_dir = &self.config.run_dir;
        let dirs = bootdir::all(run_dir);
        let dirs = dirs.map_err(|err| PortError::new(format!("read {run_dir}"), err))?;
        let mut found: Vec<_> = dirs
            .iter()
            .map(|dir| FoundVm {
                machine: dir.machine,
                boot: dir.boot,
                alive: dir.process().is_some(),
            })
            .collect();
        for (machine, boot) in self.cgroups.list().iter().filter_map(|n| bootdir::parse_name(n)) {
            if !found.iter().any(|vm| vm.boot == boot) {
                let alive = !self.cgroups.pids(&format!("{machine}-{boot}")).is_empty();
                found.push(FoundVm { machine, boot, alive });
            }
        }
        Ok(found)
    }

    /// Ends and removes everything of a boot, however little of it there is.
    async fn clear(&self, dir: &BootDir) -> Result<(), PortError> {
        let failed = |what: &str, err: io::Error| {
            PortError::new(format!("{what} of {}", dir.name()), err).transient()
        };
        let known = self.known().remove(&dir.boot);
        if let Some((_, handle)) = dir.process() {
            process::kill(&handle).map_err(|err| failed("kill the process", err))?;
            // With a monitor task, that one reaps it and says how it ended.
            if let Some(known) = known.filter(|known| !known.exit.is_known()) {
                let again = handle.try_clone().map_err(|err| failed("hold the process", err))?;
                let gone = tokio::time::timeout(GONE_WITHIN, known.exit.wait(again)).await;
                gone.map_err(|_| failed("wait for the process", io::ErrorKind::TimedOut.into()))?;
            }
            let gone = process::kill_and_wait(&handle, GONE_WITHIN).await;
            gone.map_err(|err| failed("wait for the process", err))?;
        }
        self.clear_cgroup(&dir.name()).await.map_err(|err| failed("clear the cgroups", err))?;
        if dir.exists() {
            // Last: as long as it is there, the boot is listed.
            dir.remove().map_err(|err| failed("remove the directory", err))?;
        }
        Ok(())
    }

    async fn clear_cgroup(&self, name: &str) -> io::Result<()> {
        for _ in 0..KILL_ROUNDS {
            let pids = self.cgroups.pids(name);
            if pids.is_empty() {
                break;
            }
            for handle in pids.into_iter().filter_map(|pid| process::open(pid).ok()) {
                process::kill_and_wait(&handle, GONE_WITHIN).await?;
            }
        }
        self.cgroups.remove(name)
    }

    fn limits(&self, spec: &BootSpec) -> Limits {
        // What QEMU needs beside the guest's memory, with room: libraries,
        // firmware, queues, and under emulation the translated code. Measured
        // with one emulated vCPU: 102 MiB.
        let vcpus = u64::from(spec.vcpus);
        let overhead_mib = match self.config.accelerator {
            Accelerator::Kvm => 96 + 2 * vcpus,
            Accelerator::Tcg => 128 + u64::from(TB_MIB) + 8 * vcpus,
        };
        Limits {
            cpu_weight: spec.cpu_weight,
            // The vCPUs, and a fifth of a core for QEMU's own threads.
            cpu_quota: spec.vcpus * 1000 + 200,
            memory: (u64::from(spec.memory_mib) + overhead_mib) << 20,
            pids: launch::threads(spec.vcpus),
        }
    }

    fn dir(&self, machine: MachineId, boot: BootId) -> BootDir {
        BootDir::new(&self.config.run_dir, machine, boot)
    }

    /// One at a time per boot.
    async fn turn(&self, boot: BootId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = locked(&self.locks).entry(boot).or_default().clone();
        lock.lock_owned().await
    }

    /// Forgets the lock of a boot nobody waits for.
    fn forget_turn(&self, boot: BootId) {
        let mut locks = locked(&self.locks);
        if locks.get(&boot).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&boot);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<BootId, Known>> {
        locked(&self.known)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
