//! The slow work of a machine: bring a VM up, take one down.

use super::orders::{Surroundings, orders};
use super::resume;
use crate::agent::{Agent, AgentError, ApiFor, Listen, Ports, Report, Welcome};
use crate::host::Shared;
use crate::ports::{BootSpec, ImageError, Link, Nic, Origin, PortError, RootImage, Vm, VmExit};
use crate::record::{Persist, Record};
use camino::Utf8PathBuf;
use futures_util::future::BoxFuture;
use guest_protocol::{MAX_FRAME, Phase, ToGuest};
use model::address::Addresses;
use model::id::BootId;
use model::life::State;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Reports of a guest that may wait for the machine's task.
const REPORTS: usize = 64;
/// What a VM that has ended has to say is known a moment after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A guest takes its first word at once, or is of no use.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// A guest that is powering itself off has this long before it is killed.
const POWER_OFF: Duration = Duration::from_secs(5);

/// A VM that is up and can be spoken to.
pub(crate) struct Launched {
    pub(crate) agent: Arc<Agent>,
    pub(crate) welcome: Welcome,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) ports: watch::Receiver<Ports>,
    /// Of the image, where it was looked at.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) exited: BoxFuture<'static, VmExit>,
    pub(crate) origin: Origin,
    /// Milliseconds by stage.
    pub(crate) stages: Vec<(String, f64)>,
}

/// Why a VM did not come up.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// Nobody wants it any more.
    Cancelled,
    /// Another try may help.
    Transient(String),
    /// Another try would fail as well.
    Final(String),
}

impl LaunchError {
    pub(super) fn of(err: &PortError) -> Self {
        let text = rt::chain(err);
        if err.transient { Self::Transient(text) } else { Self::Final(text) }
    }

    pub(super) fn agent(err: &AgentError) -> Self {
        match err {
            AgentError::Version(_) => Self::Final(rt::chain(err)),
            _ => Self::Transient(rt::chain(err)),
        }
    }
}

/// Times the stages of a start.
pub(super) struct Stages {
    last: Instant,
    pub(super) done: Vec<(String, f64)>,
}

impl Stages {
    pub(super) fn begin() -> Self {
        Self { last: Instant::now(), done: Vec::new() }
    }

    pub(super) fn done(&mut self, name: &str) {
        let now = Instant::now();
        self.done.push((name.into(), (now - self.last).as_secs_f64() * 1e3));
        self.last = now;
    }
}

/// Brings a VM up: image, disk, network, process, agent, orders. Whatever it
/// has made when it fails is found by [`clear`]. `again` says that it has failed
/// once.
pub(crate) async fn launch(
    host: Arc<Shared>,
    record: Record,
    boot: BootId,
    again: bool,
    cancel: CancellationToken,
) -> Result<Launched, LaunchError> {
    let mut stages = Stages::begin();
    let image = image(&host, &record, &cancel).await?;
    stages.done("image");
    let addresses = host.addresses(&record);
    let around = Surroundings {
        region: &host.config.region,
        addresses,
        mtu: host.config.mtu,
        nameservers: &host.config.nameservers,
        now_ns: host.clock.now_ns(),
        entropy: host.rng.bytes(64),
    };
    let mut orders = orders(&record, &image, around).map_err(LaunchError::Final)?;
    let message = ToGuest::Orders(Box::new(orders.clone()));
    if guest_protocol::codec::encode(&message).len() > MAX_FRAME {
        let text = format!("environment and files are larger than {MAX_FRAME} bytes in all");
        return Err(LaunchError::Final(text));
    }
    let scratch = scratch(&host, &record).await.map_err(|err| LaunchError::of(&err))?;
    stages.done("disk");
    let nic = attach(&host, &record).await?;
    stages.done("network");
    if cancel.is_cancelled() {
        return Err(LaunchError::Cancelled);
    }
    let mut spec = spec(&record, boot, image.path, scratch, nic);
    // Whatever it was, a boot has less that can go wrong than a template.
    spec.cold = again.then(|| "the try before this one failed".into());
    let mut vm = host.hypervisor.boot(spec).await.map_err(|err| LaunchError::of(&err))?;
    stages.done("spawn");
    if vm.origin == Origin::Template {
        // It is known to wait for them, so they need not wait for its welcome. If
        // they get lost it says that it still waits.
        orders.now = host.clock.now_ns();
        vm = say_first(vm, &ToGuest::Orders(Box::new(orders.clone()))).await;
    }
    let exited = std::mem::replace(&mut vm.exited, Box::pin(std::future::pending()));
    let met = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(LaunchError::Cancelled),
        met = meet(&host, &record, vm) => met,
    };
    let mut launched = match met {
        Ok(launched) => Launched { exited, ..launched },
        // Why it has gone says more than that it has.
        Err(AgentError::Closed) => return Err(gone(exited).await),
        Err(err) => return Err(LaunchError::agent(&err)),
    };
    stages.done(if launched.origin == Origin::Template { "restore" } else { "boot" });
    if launched.welcome.phase == Phase::AwaitsOrders {
        orders.now = host.clock.now_ns();
        let said = launched.agent.say(&ToGuest::Orders(Box::new(orders))).await;
        said.map_err(|err| LaunchError::agent(&err))?;
    }
    launched.stages = stages.done;
    launched.labels = Some(image.config.labels);
    Ok(launched)
}

/// A VM ended before its guest had answered.
async fn gone(exited: BoxFuture<'static, VmExit>) -> LaunchError {
    let exit = tokio::time::timeout(LAST_WORDS, exited).await.unwrap_or_default();
    LaunchError::Transient(super::change::lost_words(&exit))
}

pub(super) async fn image(
    host: &Shared,
    record: &Record,
    cancel: &CancellationToken,
) -> Result<RootImage, LaunchError> {
    let image = cancel.run_until_cancelled(host.ensure_image(record)).await;
    image.ok_or(LaunchError::Cancelled)?.map_err(|err| image_error(&err))
}

pub(super) async fn attach(host: &Shared, record: &Record) -> Result<Option<Nic>, LaunchError> {
    let Some(link) = link(record, host.addresses(record)) else { return Ok(None) };
    let attached = host.network.attach(link).await;
    attached.map(Some).map_err(|err| LaunchError::of(&err))
}

pub(super) fn spec(
    record: &Record,
    boot: BootId,
    root: Utf8PathBuf,
    scratch: Utf8PathBuf,
    nic: Option<Nic>,
) -> BootSpec {
    BootSpec {
        machine: record.id,
        boot,
        vcpus: record.vcpus(),
        memory_mib: record.memory_mib(),
        cpu_weight: record.cpu_weight(),
        root,
        scratch,
        nic,
        kernel_args: kernel_args(record),
        snapshot: None,
        cold: None,
    }
}

/// The writable disk: the one that is to be kept, or a fresh one. A kept disk is
/// found by its name, so nothing has to be remembered about it.
async fn scratch(host: &Shared, record: &Record) -> Result<Utf8PathBuf, PortError> {
    let path = host.machine_dir(record.id).join(record.scratch_name());
    let kept = record.persist() != Persist::Never || record.keep_scratch;
    if kept && path.exists() {
        return Ok(path);
    }
    host.clear_machine_dir(record.id)?;
    host.disks.create(&path, record.scratch_bytes()).await?;
    Ok(path)
}

/// Takes over a VM of an earlier daemon.
pub(super) async fn adopt(
    host: Arc<Shared>,
    record: Record,
    boot: BootId,
) -> Result<Launched, LaunchError> {
    if let Some(link) = link(&record, host.addresses(&record)) {
        host.network.adopt(link).await.map_err(|err| LaunchError::of(&err))?;
    }
    let vm = host.hypervisor.adopt(record.id, boot).await;
    let vm = vm.map_err(|err| LaunchError::of(&err))?;
    // A suspend that was given up or cut off may have left it standing still.
    let proceeded = host.hypervisor.proceed(record.id, boot).await;
    proceeded.map_err(|err| LaunchError::of(&err))?;
    let launched = meet(&host, &record, vm).await.map_err(|err| LaunchError::agent(&err))?;
    if launched.welcome.phase == Phase::AwaitsOrders {
        give_orders(&host, &record, &launched.agent).await?;
    }
    if record.keep_scratch && record.state != State::Starting {
        // Resumed by a daemon that may not have come to tell it.
        resume::tell(&host, &record, &launched.agent, &launched.welcome.phase).await;
    }
    tracing::info!(machine = %record.id, %boot, "adopted a running VM");
    Ok(launched)
}

/// Sends the orders to an adopted VM that was made but never got them.
async fn give_orders(
    host: &Arc<Shared>,
    record: &Record,
    agent: &Agent,
) -> Result<(), LaunchError> {
    let image = host.ensure_image(record).await.map_err(|err| image_error(&err))?;
    let around = Surroundings {
        region: &host.config.region,
        addresses: host.addresses(record),
        mtu: host.config.mtu,
        nameservers: &host.config.nameservers,
        now_ns: host.clock.now_ns(),
        entropy: host.rng.bytes(64),
    };
    let orders = orders(record, &image, around).map_err(LaunchError::Final)?;
    let said = agent.say(&ToGuest::Orders(Box::new(orders))).await;
    said.map_err(|err| LaunchError::agent(&err))
}

/// Says something to a guest before the greeting. An error shows in the session.
pub(super) async fn say_first(mut vm: Vm, message: &ToGuest) -> Vm {
    let frame = guest_protocol::codec::encode(message);
    let _ = tokio::time::timeout(FIRST_WORD, vm.agent.write_all(&frame)).await;
    vm
}

/// Opens a session with a VM's guest.
pub(super) async fn meet(
    host: &Arc<Shared>,
    record: &Record,
    vm: Vm,
) -> Result<Launched, AgentError> {
    let (reports_in, reports) = mpsc::channel(REPORTS);
    let (ports_in, ports) = watch::channel(Ports::new());
    let listen = Listen {
        app: record.app.to_string(),
        machine: record.id.to_string(),
        logs: host.logs.clone(),
        reports: reports_in,
        ports: ports_in,
        api: ApiFor {
            machine: record.id,
            app: record.app.to_string(),
            handler: host.guest_api.clone(),
        },
    };
    let deadline = host.config.boot_deadline;
    let connected = Agent::connect(vm.agent, host.rng.bits(), listen, deadline, &host.tasks);
    let (agent, welcome) = connected.await?;
    let (exited, origin, stages, labels) = (vm.exited, vm.origin, Vec::new(), None);
    Ok(Launched { agent, welcome, reports, ports, labels, exited, origin, stages })
}

/// What is known of a VM that is to be removed.
pub(crate) struct Ending {
    /// Ask the guest to flush its disks and power off first.
    pub(crate) agent: Option<Arc<Agent>>,
    pub(crate) exited: Option<BoxFuture<'static, VmExit>>,
    /// Its network may rest for the next start of the same machine.
    pub(crate) rests: bool,
}

impl Ending {
    /// Nothing is known of it, so everything is removed.
    pub(super) fn unknown() -> Self {
        Self { agent: None, exited: None, rests: false }
    }
}

/// Removes everything of a boot, however long it takes: a VM that cannot be
/// killed keeps its machine from being anything else.
pub(crate) async fn clear(host: Arc<Shared>, record: Record, ending: Ending) -> VmExit {
    let mut exit = VmExit::default();
    if let Some(agent) = &ending.agent {
        // It may have gone meanwhile; the kill below settles it.
        let _ = tokio::time::timeout(POWER_OFF, agent.say(&ToGuest::PowerOff)).await;
    }
    if let Some(exited) = ending.exited {
        let patience = if ending.agent.is_some() { POWER_OFF } else { Duration::from_millis(50) };
        exit = tokio::time::timeout(patience, exited).await.unwrap_or_default();
    }
    let pauses = (Duration::from_millis(100), Duration::from_secs(10));
    let mut backoff = rt::Backoff::new(pauses.0, pauses.1);
    let mut rests = ending.rests;
    while let Err(err) = try_clear(&host, &record, rests).await {
        rests = false;
        let text = rt::chain(&err);
        tracing::warn!(machine = %record.id, error = text, "cannot remove VM, trying again");
        host.say(&record, &format!("Waiting for the host: {text}"));
        tokio::time::sleep(backoff.pause(&host.rng)).await;
    }
    exit
}

async fn try_clear(host: &Shared, record: &Record, rests: bool) -> Result<(), PortError> {
    if let Some(boot) = record.boot {
        host.hypervisor.kill(record.id, boot).await?;
    }
    match record.slot {
        Some(slot) if rests => {
            host.network.park(slot).await;
            Ok(())
        }
        Some(slot) => host.network.detach(slot).await,
        None => Ok(()),
    }
}

fn link(record: &Record, addresses: Option<Addresses>) -> Option<Link> {
    let (slot, addresses) = (record.slot?, addresses?);
    Some(Link { slot, network: record.network, addresses })
}

pub(super) fn kernel_args(record: &Record) -> Vec<String> {
    let init = record.config.init.as_ref().and_then(|init| init.kernel_args.clone());
    let guest = record.config.guest.as_ref().and_then(|guest| guest.kernel_args.clone());
    init.into_iter().chain(guest).flatten().collect()
}

fn image_error(err: &ImageError) -> LaunchError {
    match err {
        ImageError::Failed(port) => LaunchError::of(port),
        other => LaunchError::Final(rt::chain(other)),
    }
}
