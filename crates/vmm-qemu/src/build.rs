//! Making a template: boot, settle, freeze, try out, keep.

use crate::driver::Inner;
use crate::launch::Source;
use crate::monitor::Wish;
use crate::template::Template;
use camino::Utf8PathBuf;
use model::id::{BootId, HostId, MachineId};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use worker::ports::{BootSpec, PortError, Settle, Shape};

/// Bytes of the disk that a guest of a template must not look at.
const BLANK: u64 = 1 << 20;
/// Builds yield to machines, in thousandths of a core.
const WEIGHT: u32 = 100;

impl Inner {
    /// Makes and keeps a template, unless there is one.
    pub(crate) async fn build(
        self: &Arc<Self>,
        shape: Shape,
        settle: Settle,
    ) -> Result<(), PortError> {
        let platform = self.platform()?;
        if self.templates.has(&platform, shape) {
            return Ok(());
        }
        let template = Arc::new(self.freeze(shape, &settle).await?);
        self.try_out(shape, template.clone(), &settle).await?;
        let inner = self.clone();
        let keep = move || inner.templates.keep(&platform, shape, template);
        let kept = tokio::task::spawn_blocking(keep).await.map_err(io::Error::other);
        kept.and_then(|kept| kept).map_err(|err| failed("keep", shape, err))
    }

    /// Boots a guest, and takes its memory once nothing is under way in it.
    async fn freeze(&self, shape: Shape, settle: &Settle) -> Result<Template, PortError> {
        let spec = Arc::new(self.builder(shape, 0)?);
        let dir = self.dir(spec.machine, spec.boot);
        self.clear(&dir).await?;
        let frozen = async {
            let (vm, memory) = self.start(&dir, spec, Source::Kernel).await?;
            settle(vm.agent).await?;
            let control = self.control(&dir)?;
            let not = |err| failed("freeze", shape, err);
            control.ask(Wish::Pause).await.map_err(not)?;
            let path = dir.path.join("state");
            let mut options = File::options();
            let state = options.write(true).create_new(true).mode(0o600).open(&path);
            control.ask(Wish::SaveDevices(state.map_err(not)?)).await.map_err(not)?;
            let mut state = Vec::new();
            File::open(&path).and_then(|mut file| file.read_to_end(&mut state)).map_err(not)?;
            Ok((memory, state))
        };
        let frozen = frozen.await;
        // Also before the memory is sealed: nobody may have it mapped then.
        self.clear(&dir).await?;
        let (memory, state) = frozen?;
        Template::new(memory, state).map_err(|err| failed("seal", shape, err))
    }

    /// A guest that begins from the template has to be as good as new.
    async fn try_out(
        &self,
        shape: Shape,
        template: Arc<Template>,
        settle: &Settle,
    ) -> Result<(), PortError> {
        let spec = Arc::new(self.builder(shape, 1)?);
        let dir = self.dir(spec.machine, spec.boot);
        self.clear(&dir).await?;
        let tried = async {
            let (vm, _) = self.start(&dir, spec, Source::Template(template)).await?;
            settle(vm.agent).await
        };
        let tried = tried.await;
        self.clear(&dir).await?;
        tried.map_err(|err| PortError::new(format!("try out a template of {}", words(shape)), err))
    }

    /// A VM that is no machine's: the id is of no host. Always the same ones: what
    /// a killed daemon left is removed by the next.
    fn builder(&self, shape: Shape, attempt: u64) -> Result<BootSpec, PortError> {
        let blank = self.blank_disk().map_err(|err| failed("make", shape, err))?;
        Ok(BootSpec {
            machine: MachineId::new(HostId(0), 1),
            boot: BootId::new(
                attempt,
                u128::from(shape.memory_mib) << 16 | u128::from(shape.vcpus),
            ),
            vcpus: shape.vcpus,
            memory_mib: shape.memory_mib,
            cpu_weight: WEIGHT,
            root: blank.clone(),
            scratch: blank,
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

fn words(shape: Shape) -> String {
    format!("{} vCPUs and {} MiB", shape.vcpus, shape.memory_mib)
}

fn failed(what: &str, shape: Shape, err: io::Error) -> PortError {
    PortError::new(format!("{what} a template of {}", words(shape)), err)
}
