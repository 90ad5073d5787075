//! Starting a VM: from its snapshot, from a template, or by booting the kernel.

use crate::cgroup::limits::{self, Limits};
use crate::config::Accelerator;
use crate::driver::state::{EXIT_TIMEOUT, Inner, blocking};
use crate::launch::command_line::TB_MIB;
use crate::launch::{self, BootSource, Launched};
use crate::monitor;
use crate::monitor::console;
use crate::monitor::qmp::Qmp;
use crate::process::boot_dir::{AGENT, BootDir, Description, QMP};
use crate::process::pidfd;
use crate::snapshot;
use crate::template::store::Template;
use serde_json::json;
use std::fs::File;
use std::io;
use std::sync::Arc;
use worker::ports::{BootOrigin, BootSpec, PortError, Shape, Vm};

impl Inner {
    /// Starts a VM from the snapshot in its spec, else from its template, else from
    /// the kernel; connects to it if it runs already.
    pub(crate) async fn boot(self: &Arc<Self>, spec: BootSpec) -> Result<Vm, PortError> {
        let _guard = self.lock_boot(spec.boot).await;
        let dir = self.dir(spec.machine, spec.boot);
        if dir.process().is_some() {
            return self.attach(&dir).await;
        }
        self.clear(&dir).await?;
        let spec = Arc::new(spec);
        if let Some(snapshot) = spec.snapshot.clone() {
            let (inner, wanted) = (self.clone(), spec.clone());
            let open = move || snapshot::open(&snapshot, &*inner.platform()?, &wanted);
            let opened = tokio::task::spawn_blocking(open).await;
            let opened = opened.map_err(|err| PortError::new("open a snapshot", err))??;
            return self
                .try_start(&dir, spec, BootSource::Snapshot(opened), BootOrigin::Snapshot)
                .await;
        }
        let why = match self.template_for(&spec).await {
            Ok(template) => {
                let source = BootSource::Template(template);
                match self.try_start(&dir, spec.clone(), source, BootOrigin::Template).await {
                    Ok(vm) => return Ok(vm),
                    Err(err) => self.invalidate_template(&spec, &err).await,
                }
            }
            Err(why) => why,
        };
        self.try_start(&dir, spec, BootSource::Kernel, BootOrigin::Cold(why)).await
    }

    /// The template that a VM of `spec` starts from, or why it must boot.
    async fn template_for(self: &Arc<Self>, spec: &BootSpec) -> Result<Arc<Template>, String> {
        if !spec.kernel_args.is_empty() {
            return Err("its config adds words to the kernel's command line".into());
        }
        if let Some(why) = &spec.cold {
            return Err(why.clone());
        }
        if !spec.images.is_empty() {
            // The guest of a template has found all of its devices, and microvm has no
            // hotplug.
            return Err("its containers have images of their own".into());
        }
        if !spec.volumes.is_empty() {
            return Err(
                "it has volumes, and the guest of a template has no devices for them".into()
            );
        }
        let (inner, shape) = (self.clone(), shape(spec));
        let get = move || {
            let platform = inner.platform().map_err(|err| rt::chain(&err))?;
            let Shape { vcpus, memory_mib } = shape;
            inner.templates.get(&platform, shape).ok_or_else(|| {
                format!("there is no template of {vcpus} vCPUs and {memory_mib} MiB yet")
            })
        };
        let got = tokio::task::spawn_blocking(get).await;
        got.unwrap_or_else(|err| Err(err.to_string()))
    }

    /// Discards a template that could not be restored, so that it is made again.
    async fn invalidate_template(self: &Arc<Self>, spec: &BootSpec, err: &PortError) -> String {
        let why = format!("its template could not be restored: {}", rt::chain(err));
        tracing::warn!(machine = %spec.machine, why, "booting instead");
        let (inner, shape) = (self.clone(), shape(spec));
        let discard = move || {
            let platform = inner.platform().map_err(io::Error::other)?;
            inner.templates.discard(&platform, shape);
            Ok(())
        };
        if let Err(err) = blocking(discard).await {
            tracing::warn!(error = %rt::chain(&err), "cannot discard a template");
        }
        why
    }

    /// Starts a VM; removes what there is of it if that fails.
    async fn try_start(
        &self,
        dir: &BootDir,
        spec: Arc<BootSpec>,
        source: BootSource,
        origin: BootOrigin,
    ) -> Result<Vm, PortError> {
        let problem = match self.start(dir, spec, source).await {
            Ok((vm, _)) => return Ok(Vm { origin, ..vm }),
            Err(err) => err,
        };
        if let Err(err) = self.clear(dir).await {
            tracing::error!(vm = dir.name(), error = %rt::chain(&err), "cannot remove a failed boot");
        }
        Err(problem)
    }

    /// Starts a VM and returns it with its memory.
    pub(crate) async fn start(
        &self,
        dir: &BootDir,
        spec: Arc<BootSpec>,
        source: BootSource,
    ) -> Result<(Vm, File), PortError> {
        let failed =
            |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
        dir.create().map_err(|err| failed("make directory", err))?;
        let paused = matches!(source, BootSource::Snapshot(_));
        if paused {
            dir.mark_unstarted().map_err(|err| failed("make directory", err))?;
        }
        let restored = !matches!(source, BootSource::Kernel);
        dir.describe(&Description::of(&spec)).map_err(|err| failed("make directory", err))?;
        let (cgroups, name, limits) = (self.cgroups.clone(), dir.name(), self.limits(&spec));
        let created = blocking(move || cgroups.create(&name, limits)).await;
        created.map_err(|err| failed("make cgroups", err))?;
        let (launched, memory) = {
            let (config, dir) = (self.config.clone(), dir.clone());
            let work = move || launch::launch(&config, &dir, &spec, &source);
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|err| PortError::new("start the launcher", err))??
        };
        let connected = async {
            let qmp = dir.connect(QMP)?;
            let agent = dir.connect(AGENT)?;
            // Concurrently: both take the kernel some milliseconds.
            let (qmp, joined) = tokio::join!(Qmp::open(qmp), self.join(dir, launched.pid));
            let mut qmp = qmp?;
            joined?;
            if restored {
                monitor::loaded(&mut qmp).await?;
            }
            if !paused {
                qmp.execute("cont", json!({})).await?;
            }
            Ok::<_, io::Error>((qmp, agent))
        };
        match tokio::time::timeout(self.config.start_deadline, connected).await {
            Ok(Ok((qmp, agent))) => Ok((self.watch(dir.boot, launched, qmp, agent)?, memory)),
            Ok(Err(err)) => Err(self.failure(dir, &launched, err).await),
            Err(_) => Err(self.failure(dir, &launched, io::ErrorKind::TimedOut.into()).await),
        }
    }

    /// Moves a VM's process into its cgroups.
    pub(crate) async fn join(&self, dir: &BootDir, pid: u32) -> io::Result<()> {
        let (cgroups, name) = (self.cgroups.clone(), dir.name());
        blocking(move || cgroups.join(&name, pid)).await
    }

    /// Why a start failed: the log of the process is more specific than the connection
    /// that broke.
    async fn failure(&self, dir: &BootDir, launched: &Launched, err: io::Error) -> PortError {
        if let Err(err) = pidfd::kill_and_wait(&launched.handle, EXIT_TIMEOUT).await {
            tracing::error!(vm = dir.name(), error = %rt::chain(&err), "cannot end a failed boot");
        }
        let log = console::tail(&launched.log.text());
        let attempted = format!("start VM {}", dir.name());
        match log.is_empty() {
            true => PortError::new(attempted, err).transient(),
            false => PortError::new(attempted, log).transient(),
        }
    }

    fn limits(&self, spec: &BootSpec) -> Limits {
        let overhead = overhead_mib(self.config.accelerator, spec.vcpus);
        Limits {
            cpu_weight: spec.cpu_weight,
            cpu_quota: limits::all_vcpus(spec.vcpus),
            memory: (u64::from(spec.memory_mib) + u64::from(overhead)) << 20,
            pids: launch::threads(spec.vcpus),
        }
    }
}

/// MiB that a VM may use beside its guest's memory, with some room: libraries,
/// firmware, queues, and under emulation the translated code. Measured with one
/// emulated vCPU: 116 MiB.
pub(crate) fn overhead_mib(accelerator: Accelerator, vcpus: u32) -> u32 {
    match accelerator {
        Accelerator::Kvm => 96 + 2 * vcpus,
        Accelerator::Tcg => 128 + TB_MIB + 8 * vcpus,
    }
}

fn shape(spec: &BootSpec) -> Shape {
    Shape { vcpus: spec.vcpus, memory_mib: spec.memory_mib }
}
