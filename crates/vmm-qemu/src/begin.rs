//! How a VM begins: from its snapshot, from a template, or from the kernel.

use crate::args::TB_MIB;
use crate::bootdir::{AGENT, BootDir, Description, QMP};
use crate::cgroup::Limits;
use crate::config::Accelerator;
use crate::driver::{GONE_WITHIN, Inner};
use crate::launch::{self, Launched, Source};
use crate::monitor;
use crate::process;
use crate::qmp::Qmp;
use crate::snapshot;
use crate::template::Template;
use crate::words;
use serde_json::json;
use std::fs::File;
use std::io;
use std::sync::Arc;
use worker::ports::{BootSpec, Origin, PortError, Shape, Vm};

impl Inner {
    /// Starts a VM from what its spec says, else from its template, else from the
    /// kernel; takes it as it is if it runs already.
    pub(crate) async fn boot(self: &Arc<Self>, spec: BootSpec) -> Result<Vm, PortError> {
        let _turn = self.turn(spec.boot).await;
        let dir = self.dir(spec.machine, spec.boot);
        if dir.process().is_some() {
            return self.attach(&dir).await;
        }
        self.clear(&dir).await?;
        let spec = Arc::new(spec);
        if let Some(snapshot) = spec.snapshot.clone() {
            let (inner, asked) = (self.clone(), spec.clone());
            let open = move || snapshot::open(&snapshot, &*inner.platform()?, &asked);
            let opened = tokio::task::spawn_blocking(open).await;
            let opened = opened.map_err(|err| PortError::new("open a snapshot", err))??;
            return self.try_start(&dir, spec, Source::Snapshot(opened), Origin::Snapshot).await;
        }
        let why = match self.template_for(&spec).await {
            Ok(template) => {
                let source = Source::Template(template);
                match self.try_start(&dir, spec.clone(), source, Origin::Template).await {
                    Ok(vm) => return Ok(vm),
                    Err(err) => self.distrust(&spec, &err),
                }
            }
            Err(why) => why,
        };
        self.try_start(&dir, spec, Source::Kernel, Origin::Cold(why)).await
    }

    /// The template that a VM of `spec` begins from, or why there is none.
    async fn template_for(self: &Arc<Self>, spec: &BootSpec) -> Result<Arc<Template>, String> {
        if !spec.kernel_args.is_empty() {
            return Err("its config adds words to the kernel's command line".into());
        }
        if let Some(why) = &spec.cold {
            return Err(why.clone());
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

    /// A template that a VM could not begin from is made again.
    fn distrust(&self, spec: &BootSpec, err: &PortError) -> String {
        let why = format!("its template could not be restored: {}", rt::chain(err));
        tracing::warn!(machine = %spec.machine, why, "booting instead");
        if let Ok(platform) = self.platform() {
            self.templates.discard(&platform, shape(spec));
        }
        why
    }

    /// Starts a VM, or leaves nothing of it.
    async fn try_start(
        &self,
        dir: &BootDir,
        spec: Arc<BootSpec>,
        source: Source,
        origin: Origin,
    ) -> Result<Vm, PortError> {
        let problem = match self.start(dir, spec, source).await {
            Ok((vm, _)) => return Ok(Vm { origin, ..vm }),
            Err(err) => err,
        };
        if let Err(err) = self.clear(dir).await {
            tracing::error!(vm = dir.name(), error = %rt::chain(&err), "remains of a failed boot");
        }
        Err(problem)
    }

    /// Starts a VM and returns it with its memory.
    pub(crate) async fn start(
        &self,
        dir: &BootDir,
        spec: Arc<BootSpec>,
        source: Source,
    ) -> Result<(Vm, File), PortError> {
        let failed =
            |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
        dir.create().map_err(|err| failed("make directory", err))?;
        let waits = matches!(source, Source::Snapshot(_));
        if waits {
            dir.begin_wait().map_err(|err| failed("make directory", err))?;
        }
        let restored = !matches!(source, Source::Kernel);
        dir.describe(&Description::of(&spec)).map_err(|err| failed("make directory", err))?;
        let cgroups = self.cgroups.create(&dir.name(), self.limits(&spec));
        cgroups.map_err(|err| failed("make cgroups", err))?;
        let (launched, memory) = {
            let (config, dir) = (self.config.clone(), dir.clone());
            let work = move || launch::launch(&config, &dir, &spec, &source);
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|err| PortError::new("start the launcher", err))??
        };
        let connected = async {
            let qmp = dir.connect(QMP)?;
            let agent = dir.connect(AGENT)?;
            // Beside each other: both take the kernel a while.
            let (qmp, joined) = tokio::join!(Qmp::open(qmp), self.join(dir, launched.pid));
            let mut qmp = qmp?;
            joined?;
            if restored {
                monitor::loaded(&mut qmp).await?;
            }
            if !waits {
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

    /// Counts a VM's process with its group.
    pub(crate) async fn join(&self, dir: &BootDir, pid: u32) -> io::Result<()> {
        let (cgroups, name) = (self.cgroups.clone(), dir.name());
        let join = move || cgroups.join(&name, pid);
        tokio::task::spawn_blocking(join).await.map_err(io::Error::other)?
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
}

fn shape(spec: &BootSpec) -> Shape {
    Shape { vcpus: spec.vcpus, memory_mib: spec.memory_mib }
}
