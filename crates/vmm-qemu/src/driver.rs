//! The port: boots, finds, adopts and kills VMs.
//!
//! Invariant: whatever exists of a boot (directory, cgroup, process) can be
//! found by its name alone, and is made in an order that leaves no process
//! without a directory. So `kill` and `list` need no memory, and a daemon that
//! was killed at any point leaves nothing that the next cannot remove.

use crate::bootdir::{self, AGENT, BootDir, QMP};
use crate::cgroup::Cgroups;
use crate::config::{Accelerator, QemuConfig, qemu_version};
use crate::launch::{Launched, Log};
use crate::monitor::{self, Control, Exit, Running, Wish};
use crate::platform::{self, Platform};
use crate::process;
use crate::qmp::Qmp;
use crate::snapshot;
use crate::template::Templates;
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
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(15);
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
pub(crate) struct Inner {
    pub(crate) config: QemuConfig,
    version: String,
    pub(crate) cgroups: Arc<Cgroups>,
    pub(crate) templates: Templates,
    platform: Mutex<Option<(String, Arc<Platform>)>>,
    pub(crate) tasks: rt::Tasks,
    known: Mutex<HashMap<BootId, Known>>,
    locks: Mutex<HashMap<BootId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A VM that this driver has a monitor connection to.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    exit: Exit,
    pub(crate) control: Control,
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
        let cgroups = Arc::new(Cgroups::detect(&config.instance));
        let templates = Templates::open(&config.template_dir);
        let templates = templates
            .map_err(|err| PortError::new(format!("open {}", config.template_dir), err))?;
        let inner = Inner {
            config,
            version,
            cgroups,
            templates,
            platform: Mutex::default(),
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
        machine: MachineId,
        boot: BootId,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        let inner = self.inner.clone();
        // A task of its own: whoever stops waiting leaves a snapshot or a VM that runs.
        let saved = self.inner.tasks.spawn(async move {
            let _turn = inner.turn(boot).await;
            inner.suspend(&inner.dir(machine, boot), to, cancel).await
        });
        saved.await.map_err(|err| PortError::new("suspend a VM", err))?
    }

    async fn proceed(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        let _turn = self.inner.turn(boot).await;
        self.inner.proceed(&self.inner.dir(machine, boot)).await
    }

    fn snapshot(&self, dir: &Utf8Path) -> Option<Snapshot> {
        snapshot::find(dir)
    }

    fn memory(&self, machine: MachineId, boot: BootId) -> Option<u64> {
        let (pid, _handle) = self.inner.dir(machine, boot).process()?;
        process::proportional_bytes(pid)
    }

    fn has_template(&self, shape: Shape) -> bool {
        let platform = self.inner.platform();
        platform.is_ok_and(|platform| self.inner.templates.has(&platform, shape))
    }

    fn templates(&self) -> Vec<Shape> {
        let platform = self.inner.platform();
        platform.map_or(Vec::new(), |platform| self.inner.templates.all(&platform))
    }

    async fn make_template(&self, shape: Shape, settle: Settle) -> Result<(), PortError> {
        let inner = self.inner.clone();
        let made = self.inner.tasks.spawn(async move { inner.build(shape, settle).await });
        made.await.map_err(|err| PortError::new("make a template", err))?
    }

    fn about(&self) -> HypervisorInfo {
        HypervisorInfo {
            accelerator: self.inner.config.accelerator.as_str().into(),
            version: format!("QEMU {}", self.inner.version),
        }
    }
}

impl Inner {
    /// The platform as of now: QEMU may be upgraded while the daemon runs.
    pub(crate) fn platform(&self) -> Result<Arc<Platform>, PortError> {
        let mut known = locked(&self.platform);
        let qemu = platform::identity(&self.config.qemu);
        let qemu =
            qemu.map_err(|err| PortError::new(format!("look at {}", self.config.qemu), err))?;
        if let Some((_, platform)) = known.as_ref().filter(|(of, _)| *of == qemu) {
            return Ok(platform.clone());
        }
        let platform = Arc::new(Platform::of(&self.config)?);
        self.templates.collect(&platform);
        *known = Some((qemu, platform.clone()));
        Ok(platform)
    }

    /// Takes a VM that runs, by its directory. One that stood still while it was
    /// being written down goes on.
    pub(crate) async fn attach(&self, dir: &BootDir) -> Result<Vm, PortError> {
        let failed =
            |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
        let Some((pid, handle)) = dir.process() else {
            return Err(PortError::plain(format!("VM {} does not run", dir.name())));
        };
        if dir.waits() {
            return Err(PortError::plain(format!("the guest of VM {} never ran", dir.name())));
        }
        let agent = dir.connect(AGENT).map_err(|err| failed("connect to the agent port", err))?;
        let known = self.known().get(&dir.boot).cloned();
        if let Some(known) = known {
            self.go_on(dir, &known.control).await?;
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
        let connected = async {
            let mut qmp = Qmp::open(dir.connect(QMP)?).await?;
            Ok((monitor::stands_still(&mut qmp).await?, qmp))
        };
        let qmp = tokio::time::timeout(ADOPT_WITHIN, connected).await;
        let qmp =
            qmp.map_err(|_| PortError::plain(format!("the monitor of {} is silent", dir.name())))?;
        let (stands, qmp) = qmp.map_err(|err: io::Error| failed("talk to the monitor", err))?;
        let vm = self.watch(dir.boot, Launched { pid, handle, log }, qmp, agent)?;
        let control = self.control(dir)?;
        self.go_on(dir, &control).await?;
        if stands {
            // The daemon was killed while it was about to let it run.
            let joined = self.join(dir, pid).await;
            joined.map_err(|err| failed("count the process", err))?;
            let gone_on = control.ask(Wish::Proceed).await;
            gone_on.map_err(|err| failed("let go on the guest", err))?;
        }
        Ok(vm)
    }

    /// The way to the monitor of a VM that this driver has.
    pub(crate) fn control(&self, dir: &BootDir) -> Result<Control, PortError> {
        let known = self.known().get(&dir.boot).map(|known| known.control.clone());
        known.ok_or_else(|| PortError::plain(format!("VM {} does not run", dir.name())))
    }

    /// Begins to watch a VM that answers.
    pub(crate) fn watch(
        &self,
        boot: BootId,
        vm: Launched,
        qmp: Qmp,
        agent: tokio::net::UnixStream,
    ) -> Result<Vm, PortError> {
        let Launched { pid, handle, log } = vm;
        let again = handle.try_clone().map_err(|err| PortError::new("hold a VM's process", err))?;
        let (sender, exit) = Exit::channel();
        let (control, asks) = Control::channel();
        self.known().insert(boot, Known { exit: exit.clone(), control });
        let vm = Running { pid, handle, log };
        self.tasks.spawn_until_stop(monitor::watch(vm, qmp, asks, sender));
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
    pub(crate) async fn clear(&self, dir: &BootDir) -> Result<(), PortError> {
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

    pub(crate) fn dir(&self, machine: MachineId, boot: BootId) -> BootDir {
        BootDir::new(&self.config.run_dir, machine, boot)
    }

    /// One at a time per boot.
    pub(crate) async fn turn(&self, boot: BootId) -> tokio::sync::OwnedMutexGuard<()> {
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
