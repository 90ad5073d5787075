//! The driver's register of VMs, and the operations on those that exist.

use crate::cgroup::groups::Cgroups;
use crate::config::{QemuConfig, qemu_version};
use crate::driver::current_platform::CurrentPlatform;
use crate::launch::Launched;
use crate::monitor::qmp::Qmp;
use crate::monitor::{self, Control, Exit, MonitorCommand, Running};
use crate::platform::Platform;
use crate::process::boot_dir::{self, AGENT, BootDir, QMP};
use crate::process::log::Log;
use crate::process::pidfd;
use crate::template::store::Templates;
use model::id::{BootId, MachineId};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use worker::ports::{BootOrigin, FoundVm, PortError, Vm};

/// How long a killed process may take to end.
pub(crate) const EXIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a running VM may take to answer a daemon that takes it over.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Rounds of killing what is in a cgroup: something may be starting meanwhile.
const KILL_ROUNDS: usize = 16;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: QemuConfig,
    pub(crate) version: String,
    pub(crate) cgroups: Arc<Cgroups>,
    pub(crate) templates: Templates,
    platform: CurrentPlatform,
    pub(crate) tasks: rt::Tasks,
    monitored: Mutex<HashMap<BootId, MonitoredVm>>,
    locks: Mutex<HashMap<BootId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A VM that this driver has a monitor connection to.
#[derive(Clone, Debug)]
pub(crate) struct MonitoredVm {
    exit: Exit,
    pub(crate) control: Control,
}

impl Inner {
    /// Checks what the driver needs and which cgroups the host has.
    ///
    /// # Errors
    /// As of [`super::QemuHypervisor::open`].
    pub(crate) fn open(mut config: QemuConfig) -> Result<Self, PortError> {
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
        let cgroups =
            Arc::new(Cgroups::detect(&config.instance, config.vms_memory_mib.map(|mib| mib << 20)));
        let templates = Templates::open(&config.template_dir);
        let templates = templates
            .map_err(|err| PortError::new(format!("open {}", config.template_dir), err))?;
        let inner = Self {
            config,
            version,
            cgroups,
            templates,
            platform: CurrentPlatform::default(),
            tasks: rt::Tasks::new(),
            monitored: Mutex::default(),
            locks: Mutex::default(),
        };
        // So that the first question about templates has an answer. A driver that
        // only kills VMs has no guest image, and needs none.
        if let Err(err) = inner.platform() {
            tracing::debug!(error = %rt::chain(&err), "the platform is not known yet");
        }
        Ok(inner)
    }

    /// The platform as of now. Blocks if QEMU has been replaced.
    ///
    /// # Errors
    /// QEMU or the guest's files cannot be read.
    pub(crate) fn platform(&self) -> Result<Arc<Platform>, PortError> {
        self.platform.get(&self.config, |platform| self.templates.collect(platform))
    }

    /// The platform if it is known; otherwise it will be soon. Does not block.
    pub(crate) fn known_platform(self: &Arc<Self>) -> Option<Arc<Platform>> {
        let known = self.platform.known(&self.config).ok()?;
        if known.is_none() {
            let inner = self.clone();
            self.tasks.spawn(async move {
                let refreshed = tokio::task::spawn_blocking(move || inner.platform()).await;
                if let Ok(Err(err)) = refreshed {
                    tracing::warn!(error = %rt::chain(&err), "cannot look at QEMU and its guest");
                }
            });
        }
        known
    }

    /// Connects to a running VM, found by its directory. A VM that was paused for a
    /// suspend is resumed.
    pub(crate) async fn attach(&self, dir: &BootDir) -> Result<Vm, PortError> {
        let failed =
            |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
        let Some((pid, handle)) = dir.process() else {
            return Err(PortError::plain(format!("VM {} does not run", dir.name())));
        };
        if dir.is_unstarted() {
            return Err(PortError::plain(format!(
                "the guest of VM {} has not run yet",
                dir.name()
            )));
        }
        let agent = dir.connect(AGENT).map_err(|err| failed("connect to the agent port", err))?;
        let vm = self.monitored().get(&dir.boot).cloned();
        if let Some(vm) = vm {
            self.abandon_snapshot(dir, &vm.control).await?;
            let exited = vm.exit.wait(handle);
            return Ok(Vm {
                boot: dir.boot,
                pid,
                origin: BootOrigin::Found,
                agent: Box::new(agent),
                exited,
            });
        }
        let log = Log::of(pid).map_err(|err| failed("open the log", err))?;
        let connected = async {
            let mut qmp = Qmp::open(dir.connect(QMP)?).await?;
            Ok((monitor::is_paused(&mut qmp).await?, qmp))
        };
        let qmp = tokio::time::timeout(ADOPT_TIMEOUT, connected).await;
        let qmp = qmp.map_err(|_| {
            PortError::plain(format!("the monitor of {} does not answer", dir.name()))
        })?;
        let (paused, qmp) = qmp.map_err(|err: io::Error| failed("query the monitor", err))?;
        let vm = self.watch(dir.boot, Launched { pid, handle, log }, qmp, agent)?;
        let control = self.control(dir)?;
        self.abandon_snapshot(dir, &control).await?;
        if paused {
            // An earlier daemon was killed just before it started the guest.
            let joined = self.join(dir, pid).await;
            joined.map_err(|err| failed("count the process", err))?;
            let resumed = control.send(MonitorCommand::Resume).await;
            resumed.map_err(|err| failed("resume the guest", err))?;
        }
        Ok(vm)
    }

    /// The command channel of a VM that this driver watches.
    pub(crate) fn control(&self, dir: &BootDir) -> Result<Control, PortError> {
        let control = self.monitored().get(&dir.boot).map(|vm| vm.control.clone());
        control.ok_or_else(|| PortError::plain(format!("VM {} does not run", dir.name())))
    }

    /// Starts the monitor task of a VM.
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
        let (control, requests) = Control::channel();
        self.monitored().insert(boot, MonitoredVm { exit: exit.clone(), control });
        let vm = Running { pid, handle, log };
        self.tasks.spawn_until_stop(monitor::watch(vm, qmp, requests, sender));
        Ok(Vm {
            boot,
            pid,
            origin: BootOrigin::Found,
            agent: Box::new(agent),
            exited: exit.wait(again),
        })
    }

    pub(crate) fn list(&self) -> Result<Vec<FoundVm>, PortError> {
        let run_dir = &self.config.run_dir;
        let dirs = boot_dir::all(run_dir);
        let dirs = dirs.map_err(|err| PortError::new(format!("read {run_dir}"), err))?;
        let mut found: Vec<_> = dirs
            .iter()
            .map(|dir| FoundVm {
                machine: dir.machine,
                boot: dir.boot,
                alive: dir.process().is_some(),
            })
            .collect();
        for (machine, boot) in self.cgroups.list().iter().filter_map(|n| boot_dir::parse_name(n)) {
            if !found.iter().any(|vm| vm.boot == boot) {
                let alive = !self.cgroups.pids(&format!("{machine}-{boot}")).is_empty();
                found.push(FoundVm { machine, boot, alive });
            }
        }
        Ok(found)
    }

    /// Ends and removes everything of a boot, also of one that is incomplete.
    pub(crate) async fn clear(&self, dir: &BootDir) -> Result<(), PortError> {
        let failed = |what: &str, err: io::Error| {
            PortError::new(format!("{what} of {}", dir.name()), err).transient()
        };
        let vm = self.monitored().remove(&dir.boot);
        if let Some((_, handle)) = dir.process() {
            pidfd::kill(&handle).map_err(|err| failed("kill the process", err))?;
            // With a monitor task, that one reaps it and records how it ended.
            if let Some(vm) = vm.filter(|vm| !vm.exit.is_known()) {
                let again = handle.try_clone().map_err(|err| failed("hold the process", err))?;
                let gone = tokio::time::timeout(EXIT_TIMEOUT, vm.exit.wait(again)).await;
                gone.map_err(|_| failed("wait for the process", io::ErrorKind::TimedOut.into()))?;
            }
            let gone = pidfd::kill_and_wait(&handle, EXIT_TIMEOUT).await;
            gone.map_err(|err| failed("wait for the process", err))?;
        }
        self.clear_cgroup(&dir.name()).await.map_err(|err| failed("clear the cgroups", err))?;
        if dir.exists() {
            // Last: as long as it is there, the boot is listed.
            let dir = dir.clone();
            let removed = blocking(move || dir.remove()).await;
            removed.map_err(|err| failed("remove the directory", err))?;
        }
        Ok(())
    }

    async fn clear_cgroup(&self, name: &str) -> io::Result<()> {
        for _ in 0..KILL_ROUNDS {
            let (cgroups, group) = (self.cgroups.clone(), name.to_owned());
            let handles = blocking(move || Ok(pidfd::members(|| cgroups.pids(&group)))).await?;
            let Some(handles) = handles else { break };
            for handle in handles {
                pidfd::kill_and_wait(&handle, EXIT_TIMEOUT).await?;
            }
        }
        let (cgroups, name) = (self.cgroups.clone(), name.to_owned());
        blocking(move || cgroups.remove(&name)).await
    }

    pub(crate) fn dir(&self, machine: MachineId, boot: BootId) -> BootDir {
        BootDir::new(&self.config.run_dir, machine, boot)
    }

    /// Serialises the operations on one boot.
    pub(crate) async fn lock_boot(&self, boot: BootId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = locked(&self.locks).entry(boot).or_default().clone();
        lock.lock_owned().await
    }

    /// Drops the lock of a boot if no task waits for it.
    pub(crate) fn drop_lock(&self, boot: BootId) {
        let mut locks = locked(&self.locks);
        if locks.get(&boot).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&boot);
        }
    }

    fn monitored(&self) -> MutexGuard<'_, HashMap<BootId, MonitoredVm>> {
        locked(&self.monitored)
    }
}

/// Runs what blocks on a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
