//! Making a template: boot, quiesce, capture, verify, keep.

use crate::driver::state::Inner;
use crate::launch::BootSource;
use crate::monitor::MonitorCommand;
use crate::template::store::Template;
use camino::Utf8PathBuf;
use model::id::{BootId, MachineId};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use worker::ports::{BootSpec, PortError, QuiesceGuest, Shape};

/// Bytes of the disk that the guest of a template has but must not read.
const BLANK: u64 = 1 << 20;
/// CPU weight of template builds, below that of machines, in thousandths of a core.
const WEIGHT: u32 = 100;

impl Inner {
    /// Makes and keeps a template, unless there is one.
    pub(crate) async fn make_template(
        self: &Arc<Self>,
        shape: Shape,
        quiesce: QuiesceGuest,
    ) -> Result<(), PortError> {
        let inner = self.clone();
        let platform = tokio::task::spawn_blocking(move || inner.platform()).await;
        let platform = platform.map_err(|err| PortError::new("look at QEMU", err))??;
        if self.templates.has(&platform, shape) {
            return Ok(());
        }
        let template = Arc::new(self.capture(shape, &quiesce).await?);
        self.verify_template(shape, template.clone(), &quiesce).await?;
        let inner = self.clone();
        let keep = move || inner.templates.keep(&platform, shape, template);
        let kept = tokio::task::spawn_blocking(keep).await.map_err(io::Error::other);
        kept.and_then(|kept| kept).map_err(|err| failed("keep", shape, err))
    }

    /// Boots a guest, and takes its memory once it is quiescent.
    async fn capture(&self, shape: Shape, quiesce: &QuiesceGuest) -> Result<Template, PortError> {
        let spec = Arc::new(self.builder_spec(shape, 0)?);
        let dir = self.dir(spec.machine, spec.boot);
        self.clear(&dir).await?;
        let captured = async {
            let (vm, memory) = self.start(&dir, spec, BootSource::Kernel).await?;
            quiesce(vm.agent).await?;
            let control = self.control(&dir)?;
            let capture_failed = |err| failed("capture", shape, err);
            control.send(MonitorCommand::Pause).await.map_err(capture_failed)?;
            let path = dir.path.join("state");
            let mut options = File::options();
            let state = options.write(true).create_new(true).mode(0o600).open(&path);
            control
                .send(MonitorCommand::SaveDevices(state.map_err(capture_failed)?))
                .await
                .map_err(capture_failed)?;
            let mut state = Vec::new();
            File::open(&path)
                .and_then(|mut file| file.read_to_end(&mut state))
                .map_err(capture_failed)?;
            Ok((memory, state))
        };
        let captured = captured.await;
        // Also before the memory is sealed: no process may have it mapped then.
        self.clear(&dir).await?;
        let (memory, state) = captured?;
        Template::new(memory, state).map_err(|err| failed("seal", shape, err))
    }

    /// Starts a guest from the template and checks that it answers.
    async fn verify_template(
        &self,
        shape: Shape,
        template: Arc<Template>,
        quiesce: &QuiesceGuest,
    ) -> Result<(), PortError> {
        let spec = Arc::new(self.builder_spec(shape, 1)?);
        let dir = self.dir(spec.machine, spec.boot);
        self.clear(&dir).await?;
        let tried = async {
            let (vm, _) = self.start(&dir, spec, BootSource::Template(template)).await?;
            quiesce(vm.agent).await
        };
        let tried = tried.await;
        self.clear(&dir).await?;
        tried.map_err(|err| {
            PortError::new(format!("verify a template of {}", shape_text(shape)), err)
        })
    }

    /// The spec of a VM that belongs to no machine: its id is of no host. The ids are
    /// always the same: what a killed daemon left is removed by the next.
    fn builder_spec(&self, shape: Shape, attempt: u64) -> Result<BootSpec, PortError> {
        let blank = self.blank_disk().map_err(|err| failed("make", shape, err))?;
        Ok(BootSpec {
            machine: MachineId::from_random(1),
            boot: BootId::new(
                attempt,
                u128::from(shape.memory_mib) << 16 | u128::from(shape.vcpus),
            ),
            vcpus: shape.vcpus,
            memory_mib: shape.memory_mib,
            cpu_weight: WEIGHT,
            root: blank.clone(),
            scratch: blank,
            images: Vec::new(),
            volumes: Vec::new(),
            nic: None,
            kernel_args: Vec::new(),
            snapshot: None,
            cold: None,
        })
    }

    fn blank_disk(&self) -> io::Result<Utf8PathBuf> {
        let path = self.config.template_dir.join("blank.disk");
        File::options().write(true).create(true).truncate(false).open(&path)?.set_len(BLANK)?;
        Ok(path)
    }
}

fn shape_text(shape: Shape) -> String {
    format!("{} vCPUs and {} MiB", shape.vcpus, shape.memory_mib)
}

fn failed(what: &str, shape: Shape, err: io::Error) -> PortError {
    PortError::new(format!("{what} a template of {}", shape_text(shape)), err)
}
