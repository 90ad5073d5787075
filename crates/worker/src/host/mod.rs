//! The host: what all machines share, and the calls others make on it.

mod calls;
mod edge;
mod images;
mod recover;
mod usage;

use crate::capacity::Capacity;
use crate::db::HostDb;
use crate::logs::LogStore;
use crate::machine::Handle;
use crate::metrics::Metrics;
use crate::ports::{Disks, GuestApi, Hypervisor, Images, Network, PortError, Shape};
use crate::record::Record;
use crate::routes::RouteHub;
use crate::templates::{self, Templates};
use camino::Utf8PathBuf;
use model::address::{self, Addresses, Ipv4Pool};
use model::id::{HostId, MachineId};
use prometheus_client::registry::Registry;
use rt::{Clock, Rng, Tasks};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Destroyed machines that are remembered.
const REMEMBERED: u32 = 1000;
/// Suspends that write to the disk at a time. This is how the suspends of many
/// machines are spread out (L019): one that waits for its turn goes on running.
const SAVES: usize = 2;

/// Settings of one host.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its number.
    pub host: HostId,
    /// Region code.
    pub region: String,
    /// Where its state lives.
    pub data_dir: Utf8PathBuf,
    /// Private IPv4 addresses of its machines.
    pub pool: Ipv4Pool,
    /// MTU of the machines' interfaces.
    pub mtu: u16,
    /// MiB of memory that machines may use in all.
    pub memory_mib: u64,
    /// How often that memory is promised: 1.0 is once. Machines rarely use all
    /// of theirs, and share what they have from one template.
    pub overcommit: f64,
    /// CPUs, for information.
    pub cpus: u32,
    /// Name servers for guests whose config names none.
    pub nameservers: Vec<String>,
    /// Time from a VM's process to its main process, per stage.
    pub boot_deadline: Duration,
    /// Time for an image to be pulled.
    pub image_deadline: Duration,
    /// Shapes of which a template is made ahead of time.
    pub templates: Vec<Shape>,
}

/// The outer worlds of one host.
#[derive(Clone)]
pub struct Ports {
    /// VMs.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Taps and addresses.
    pub network: Arc<dyn Network>,
    /// Root filesystems.
    pub images: Arc<dyn Images>,
    /// Writable disks.
    pub disks: Arc<dyn Disks>,
    /// Who answers the guests' `/.fly/api`; `None` refuses.
    pub guest_api: Option<Arc<dyn GuestApi>>,
    /// Time of day.
    pub clock: Clock,
    /// Chance.
    pub rng: Rng,
}

/// What all machines of a host share.
pub(crate) struct Shared {
    pub(crate) config: HostConfig,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) disks: Arc<dyn Disks>,
    pub(crate) guest_api: Option<Arc<dyn GuestApi>>,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) tasks: Tasks,
    pub(crate) db: HostDb,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) routes: RouteHub,
    pub(crate) capacity: Capacity,
    pub(crate) metrics: Metrics,
    pub(crate) templates: Templates,
    pub(crate) saves: Arc<Semaphore>,
    usage: usage::Usage,
    machines: RwLock<BTreeMap<MachineId, Handle>>,
}

/// One host and its machines.
#[derive(Clone)]
pub struct Worker(Arc<Shared>);

/// Why a host cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directories or log files cannot be made.
    #[error("prepare {path}")]
    Prepare {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        err: std::io::Error,
    },
    /// Its database cannot be opened or read.
    #[error("open the host's database")]
    Database(#[source] sqlite::Error),
    /// Its network or hypervisor cannot be used.
    #[error("prepare the host")]
    Port(#[source] PortError),
}

impl Worker {
    /// Opens the host's state, takes over the VMs that run, starts those that
    /// should run and removes everything that has no owner. Returns once every
    /// machine has its task.
    ///
    /// # Errors
    /// The state cannot be read, or the host cannot be prepared.
    pub async fn start(
        config: HostConfig,
        ports: Ports,
        tasks: Tasks,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let failed = |path: &Utf8PathBuf| {
            let path = path.clone();
            move |err| StartError::Prepare { path, err }
        };
        let machines = config.data_dir.join("machines");
        std::fs::create_dir_all(&machines).map_err(failed(&machines))?;
        let dir = config.data_dir.join("logs");
        let logs = LogStore::open(dir.clone(), config.region.clone(), ports.clock.clone());
        let logs = Arc::new(logs.map_err(failed(&dir))?);
        let path = config.data_dir.join("host.db");
        let db = HostDb::open(path.as_std_path()).map_err(StartError::Database)?;
        let shared = Arc::new(Shared {
            capacity: Capacity::new(promised(&config)),
            templates: Templates::default(),
            saves: Arc::new(Semaphore::new(SAVES)),
            usage: usage::Usage::default(),
            metrics: Metrics::new(registry),
            routes: RouteHub::default(),
            machines: RwLock::default(),
            config,
            hypervisor: ports.hypervisor,
            network: ports.network,
            images: ports.images,
            disks: ports.disks,
            guest_api: ports.guest_api,
            clock: ports.clock,
            rng: ports.rng,
            tasks,
            db,
            logs,
        });
        shared.network.prepare().await.map_err(StartError::Port)?;
        recover::recover(&shared).await?;
        templates::start(&shared);
        Ok(Self(shared))
    }
}

/// MiB that may be promised. A factor that is no number above 1 changes nothing.
fn promised(config: &HostConfig) -> u64 {
    (config.memory_mib as f64 * config.overcommit.max(1.0)) as u64
}

impl Shared {
    pub(crate) fn addresses(&self, record: &Record) -> Option<Addresses> {
        address::plan(self.config.pool, record.network, record.host(), record.slot?)
    }

    /// A line of the host's own in a machine's log.
    pub(crate) fn say(&self, record: &Record, line: &str) {
        self.logs.line(record.app.as_str(), &record.id.to_string(), "runner", line);
    }

    pub(crate) fn machine_dir(&self, id: MachineId) -> Utf8PathBuf {
        self.config.data_dir.join("machines").join(id.to_string())
    }

    /// Makes a machine's directory, empty.
    pub(crate) fn clear_machine_dir(&self, id: MachineId) -> Result<(), PortError> {
        let dir = self.machine_dir(id);
        let cleared = match std::fs::remove_dir_all(&dir) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err),
            _ => std::fs::create_dir_all(&dir),
        };
        cleared.map_err(|err| PortError::new(format!("make an empty directory {dir}"), err))
    }

    /// Removes what is left of a machine's link to the network.
    pub(crate) async fn forget_link(&self, record: &Record) {
        let Some(slot) = record.slot else { return };
        let mut backoff = rt::Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        while let Err(err) = self.network.detach(slot).await {
            if self.tasks.is_stopping() {
                return;
            }
            let error = rt::chain(&err);
            tracing::warn!(machine = %record.id, error, "cannot remove its network, trying again");
            tokio::time::sleep(backoff.pause(&self.rng)).await;
        }
    }

    /// Removes a machine's files, however long it takes.
    pub(crate) async fn remove_machine_dir(&self, id: MachineId) {
        let dir = self.machine_dir(id);
        let mut backoff = rt::Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        while let Err(err) = std::fs::remove_dir_all(&dir) {
            if err.kind() == std::io::ErrorKind::NotFound || self.tasks.is_stopping() {
                return;
            }
            tracing::warn!(%dir, error = %err, "cannot remove machine directory, trying again");
            tokio::time::sleep(backoff.pause(&self.rng)).await;
        }
    }

    pub(crate) fn handle(&self, id: MachineId) -> Option<Handle> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.values().cloned().collect()
    }

    pub(crate) fn add_handle(&self, id: MachineId, handle: Handle) {
        self.machines.write().unwrap_or_else(PoisonError::into_inner).insert(id, handle);
    }

    /// A destroyed machine's task has ended. Its view stays, so that it can be
    /// asked for, until the record is forgotten.
    pub(crate) async fn bury(&self, id: MachineId) {
        self.routes.publish(id, None);
        let forgotten = match self.db.forget(REMEMBERED).await {
            Ok(forgotten) => forgotten,
            Err(err) => return tracing::warn!(error = rt::chain(&err), "cannot forget machines"),
        };
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        for id in forgotten {
            self.logs.remove(&id);
            id.parse().map(|id: MachineId| machines.remove(&id)).ok();
        }
    }
}
