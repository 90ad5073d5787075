//! Boots a VM: image, disk, network, VM process, session, guest config.

use super::guest_config::guest_config;
use super::images::MachineImages;
use super::launched::{ImageFacts, LaunchError, Launched};
use super::process::HostFacts;
use super::session;
use crate::agent::AgentError;
use crate::context::{HostContext, blocking};
use crate::ports::{BootOrigin, BootSpec, ImageError, Link, Nic, PortError, VmExit};
use crate::record::{Persist, Record};
use crate::volumes::attached::{AttachedVolume, Growth, attached};
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use guest_protocol::{MAX_FRAME, Phase, ToGuest};
use model::address::Addresses;
use model::id::BootId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time for each step of a launch but the image's pull and the guest's boot, which
/// have deadlines of their own.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for the console output of a VM that has just ended to become known.
const CONSOLE_TAIL_TIMEOUT: Duration = Duration::from_secs(1);

/// Times the stages of a start.
pub(super) struct StageTimer {
    last: Instant,
    pub(super) stages: Vec<(String, f64)>,
}

impl StageTimer {
    pub(super) fn begin() -> Self {
        Self { last: Instant::now(), stages: Vec::new() }
    }

    pub(super) fn done(&mut self, name: &str) {
        let now = Instant::now();
        self.stages.push((name.into(), (now - self.last).as_secs_f64() * 1e3));
        self.last = now;
    }
}

/// Boots a VM. When it fails, the teardown removes everything that it has made.
/// `retry`: a boot for this start has failed already.
pub(super) async fn launch(
    host: Arc<HostContext>,
    record: Record,
    boot: BootId,
    retry: bool,
    cancel: CancellationToken,
) -> Result<Launched, LaunchError> {
    let mut timer = StageTimer::begin();
    let images = images(&host, &record, &cancel).await?;
    timer.done("image");
    let facts = host_facts(&host, &record).await?;
    let secrets = host.machine_secrets(&record).await.map_err(LaunchError::Final)?;
    let volumes = volumes(&host, &record, Growth::ToSize).await?;
    let config = guest_config(&record, &images, facts, &secrets, &volumes);
    let mut config = config.map_err(LaunchError::Final)?;
    let message = ToGuest::Configure(Box::new(config.clone()));
    if guest_protocol::codec::encode(&message).len() > MAX_FRAME {
        let text =
            format!("environment, secrets and files are larger than {MAX_FRAME} bytes in all");
        return Err(LaunchError::Final(text));
    }
    let scratch = step("make the writable disk", scratch_disk(&host, &record)).await?;
    timer.done("disk");
    let nic = attach(&host, &record).await?;
    timer.done("network");
    if cancel.is_cancelled() {
        return Err(LaunchError::Cancelled);
    }
    let mut spec = spec(&record, boot, &images, (scratch, volumes), nic);
    // A cold boot has less that can fail than a restore from a template.
    spec.cold = retry.then(|| "the boot before this one failed".into());
    let mut vm = step("start the VM", host.hypervisor.boot(spec)).await?;
    timer.done("spawn");
    if vm.origin == BootOrigin::Template {
        // A template waits for its config, so the config need not wait for the
        // welcome. If it gets lost the welcome reports that the guest still waits.
        config.now = host.clock.now_ns();
        vm = session::send_early(vm, &ToGuest::Configure(Box::new(config.clone()))).await;
    }
    let exited = std::mem::replace(&mut vm.exited, Box::pin(std::future::pending()));
    let opened = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(LaunchError::Cancelled),
        opened = session::open(&host, &record, vm) => opened,
    };
    let mut launched = match opened {
        Ok(launched) => Launched { exited, ..launched },
        // Why the VM ended is more specific than that its port is closed.
        Err(AgentError::Closed) => return Err(ended_early(exited).await),
        Err(err) => return Err(LaunchError::agent(&err)),
    };
    timer.done(if launched.origin == BootOrigin::Template { "restore" } else { "boot" });
    if launched.welcome.phase == Phase::AwaitingConfig {
        config.now = host.clock.now_ns();
        let sent = launched.agent.send(&ToGuest::Configure(Box::new(config))).await;
        sent.map_err(|err| LaunchError::agent(&err))?;
    }
    launched.stages = timer.stages;
    launched.image = Some(ImageFacts::of(images.root.config));
    launched.secrets_version = Some(secrets.version);
    Ok(launched)
}

/// A VM ended before its guest had answered.
async fn ended_early(exited: BoxFuture<'static, VmExit>) -> LaunchError {
    let exit = tokio::time::timeout(CONSOLE_TAIL_TIMEOUT, exited).await.unwrap_or_default();
    LaunchError::Transient(exit.without_status())
}

pub(super) async fn images(
    host: &HostContext,
    record: &Record,
    cancel: &CancellationToken,
) -> Result<MachineImages, LaunchError> {
    let images = cancel.run_until_cancelled(MachineImages::ensure(host, record)).await;
    images.ok_or(LaunchError::Cancelled)?.map_err(|err| image_error(&err))
}

pub(super) async fn attach(
    host: &HostContext,
    record: &Record,
) -> Result<Option<Nic>, LaunchError> {
    let Some(link) = link(record, host.addresses(record)) else { return Ok(None) };
    step("attach the network", host.network.attach(link)).await.map(Some)
}

pub(super) fn spec(
    record: &Record,
    boot: BootId,
    images: &MachineImages,
    (scratch, volumes): (Utf8PathBuf, Vec<AttachedVolume>),
    nic: Option<Nic>,
) -> BootSpec {
    BootSpec {
        machine: record.id,
        boot,
        vcpus: record.vcpus(),
        memory_mib: record.memory_mib(),
        cpu_weight: record.cpu_weight(),
        root: images.root.path.clone(),
        scratch,
        images: images.drives(),
        volumes: volumes.into_iter().map(|volume| volume.disk).collect(),
        nic,
        kernel_args: kernel_args(record),
        snapshot: None,
        cold: None,
    }
}

/// The machine's volumes. It never runs without one of them: it would write to a disk that is
/// not kept.
pub(super) async fn volumes(
    host: &HostContext,
    record: &Record,
    growth: Growth,
) -> Result<Vec<AttachedVolume>, LaunchError> {
    attached(host, record, growth).await.map_err(LaunchError::Final)
}

/// The writable disk: the one to be kept, or a new one. A kept disk is found by
/// its name, so the record does not mention it.
async fn scratch_disk(host: &HostContext, record: &Record) -> Result<Utf8PathBuf, PortError> {
    let path = host.machine_dir(record.id).join(record.scratch_name());
    let kept = record.persist() != Persist::Never || record.keep_scratch;
    if kept {
        let (disk, bytes) = (path.clone(), record.scratch_bytes());
        let grown = blocking(move || grow(&disk, bytes)).await;
        match grown {
            Ok(()) => return Ok(path),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(PortError::new(format!("grow {path}"), err)),
        }
    }
    host.make_empty_machine_dir(record.id).await?;
    let outlives_boot = record.persist() != Persist::Never;
    host.disks.create(&path, record.scratch_bytes(), outlives_boot).await?;
    Ok(path)
}

/// Extends a kept disk to the size in the present config; it never shrinks.
fn grow(disk: &Utf8Path, bytes: u64) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(disk)?;
    match file.metadata()?.len() < bytes {
        true => file.set_len(bytes),
        false => Ok(()),
    }
}

/// Runs one step of a launch within [`STEP_TIMEOUT`].
async fn step<T>(
    what: &str,
    work: impl Future<Output = Result<T, PortError>>,
) -> Result<T, LaunchError> {
    match tokio::time::timeout(STEP_TIMEOUT, work).await {
        Ok(done) => done.map_err(|err| LaunchError::of(&err)),
        Err(_) => {
            let text = format!("the host could not {what} within {STEP_TIMEOUT:?}");
            Err(LaunchError::Transient(text))
        }
    }
}

/// Prepares the first boot of a machine: its image, and a disk that will be kept.
pub(super) async fn prepare(
    host: Arc<HostContext>,
    record: Record,
    cancel: CancellationToken,
) -> Result<ImageFacts, LaunchError> {
    let images = images(&host, &record, &cancel).await?;
    if record.persist() != Persist::Never {
        step("make the writable disk", scratch_disk(&host, &record)).await?;
    }
    Ok(ImageFacts::of(images.root.config))
}

pub(super) fn link(record: &Record, addresses: Option<Addresses>) -> Option<Link> {
    let (slot, addresses) = (record.slot?, addresses?);
    Some(Link { slot, network: record.network, addresses })
}

pub(super) async fn host_facts<'a>(
    host: &'a HostContext,
    record: &'a Record,
) -> Result<HostFacts<'a>, LaunchError> {
    let opened = host.config.nameservers.opened(host.network.as_ref());
    Ok(HostFacts {
        region: record.region(&host.config.region),
        addresses: host.addresses(record),
        mtu: host.config.mtu,
        nameservers: step("open the name servers to guests", opened).await?,
        now_ns: host.clock.now_ns(),
        entropy: host.rng.bytes(64),
    })
}

pub(super) fn kernel_args(record: &Record) -> Vec<String> {
    let init = record.config.init.as_ref().and_then(|init| init.kernel_args.clone());
    let guest = record.config.guest.as_ref().and_then(|guest| guest.kernel_args.clone());
    init.into_iter().chain(guest).flatten().collect()
}

pub(super) fn image_error(err: &ImageError) -> LaunchError {
    match err {
        ImageError::Failed(port) => LaunchError::of(port),
        other => LaunchError::Final(rt::chain(other)),
    }
}
