//! The context that all machines of a host share: settings, ports, database, logs, routes
//! and memory accounting.

use crate::capacity::Capacity;
use crate::checks::board::CheckBoard;
use crate::cpu::table::CpuTable;
use crate::db::HostDb;
use crate::event_feed::Feed;
use crate::guest_connections::GuestConnections;
use crate::logs::{LogLimits, LogStore};
use crate::metrics::Metrics;
use crate::ports::NameServers;
use crate::ports::{
    Disks, GuestApi, GuestConnector, Hypervisor, ImageError, Images, LogSink, Network, OwnerLookup,
    PortError, Progress, RootImage, Shape,
};
use crate::record::Record;
use crate::routes::RouteHub;
use crate::schedules::requests::RunRequests;
use crate::sessions::Sessions;
use crate::template_queue::TemplateQueue;
use crate::volumes::sizes::VolumeSizes;
use camino::{Utf8Path, Utf8PathBuf};
use model::address::{self, Addresses, Ipv4Pool, Slot};
use model::id::{HostId, MachineId};
use rt::{Clock, Rng, Tasks};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Destroyed machines that a host remembers at most.
const MAX_DESTROYED: u32 = 20_000;

/// Settings of one host.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its number.
    pub host: HostId,
    /// Its name, for people.
    pub name: String,
    /// Region code.
    pub region: String,
    /// Further codes of the region; a machine has the one that it was asked for.
    pub region_codes: Vec<String>,
    /// Names that stand for `region`.
    pub region_aliases: Vec<String>,
    /// Where its state is kept.
    pub data_dir: Utf8PathBuf,
    /// Private IPv4 addresses of its machines.
    pub pool: Ipv4Pool,
    /// MTU of the machines' interfaces.
    pub mtu: u16,
    /// MiB of memory that machines may use in all.
    pub memory_mib: u64,
    /// How many times that memory may be promised; 1.0 is no overcommit. Machines
    /// rarely use all of their memory, and share pages with their template.
    pub overcommit: f64,
    /// CPUs, for information.
    pub cpus: u32,
    /// Name servers for guests whose config names none.
    pub nameservers: NameServers,
    /// Machines with shared vCPUs are held to their baseline, with bursts; otherwise they
    /// share what is idle by weight.
    pub cpu_baseline: bool,
    /// Time from a VM's process to its main process, per stage.
    pub boot_deadline: Duration,
    /// Time for an image to be pulled.
    pub image_deadline: Duration,
    /// Shapes whose template is made ahead of time.
    pub templates: Vec<Shape>,
    /// How long destroyed machines and their events can still be read, at most
    /// 20000 of them.
    pub keep_destroyed: Duration,
    /// How much of the logs is kept.
    pub logs: LogLimits,
    /// Machines that a new database does not name are removed; otherwise the host does not
    /// start with them.
    pub discard_unrecorded: bool,
}

/// Adapters of one host.
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
    /// Answers the guests' `/.fly/api`; `None` leaves that to the subscriber of
    /// `host_api::Connections`.
    pub guest_api: Option<Arc<dyn GuestApi>>,
    /// Connects to guests.
    pub connector: Arc<dyn GuestConnector>,
    /// Ids of apps by their names, for records of the first version.
    pub owners: Option<Arc<dyn OwnerLookup>>,
    /// Seals the secrets that the database keeps.
    pub secrets_key: Arc<seal::SealingKey>,
    /// Receivers of exported log lines, each of another name.
    pub log_sinks: Vec<Arc<dyn LogSink>>,
    /// Time of day.
    pub clock: Clock,
    /// Random numbers.
    pub rng: Rng,
}

/// The context that all machines of a host share.
pub(crate) struct HostContext {
    pub(crate) config: HostConfig,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) disks: Arc<dyn Disks>,
    pub(crate) guest_api: Option<Arc<dyn GuestApi>>,
    pub(crate) guest_connections: GuestConnections,
    pub(crate) connector: Arc<dyn GuestConnector>,
    pub(crate) sessions: Sessions,
    pub(crate) secrets_key: Arc<seal::SealingKey>,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) tasks: Tasks,
    pub(crate) db: HostDb,
    pub(crate) events: Arc<Feed>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) routes: RouteHub,
    pub(crate) capacity: Capacity,
    pub(crate) checks: CheckBoard,
    /// CPU credits of the machines that are held to their baseline.
    pub(crate) cpu: CpuTable,
    /// Checks that run at a time on this host.
    pub(crate) check_slots: Semaphore,
    /// Held by the one that reads the metrics of the machines.
    pub(crate) metrics_turn: tokio::sync::Mutex<()>,
    /// How calls for runs reach the drivers of schedules.
    pub(crate) run_requests: RunRequests,
    pub(crate) metrics: Metrics,
    pub(crate) templates: TemplateQueue,
    pub(crate) blocked_slots: BlockedSlots,
    pub(crate) volume_sizes: VolumeSizes,
    /// Snapshots that are written at a time.
    pub(crate) snapshot_writers: Arc<Semaphore>,
}

/// Slots whose link an earlier daemon left and that cannot be removed yet: no machine
/// gets them.
#[derive(Debug, Default)]
pub(crate) struct BlockedSlots(Mutex<BTreeSet<Slot>>);

impl BlockedSlots {
    pub(crate) fn block(&self, slot: Slot) {
        self.lock().insert(slot);
    }

    pub(crate) fn unblock(&self, slot: Slot) {
        self.lock().remove(&slot);
    }

    pub(crate) fn list(&self) -> BTreeSet<Slot> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostContext {
    pub(crate) fn addresses(&self, record: &Record) -> Option<Addresses> {
        address::of_machine(self.config.pool, record.slot?, record.network, record.number)
    }

    /// Removes the records of machines that were destroyed long ago; their ids.
    pub(crate) async fn forget_destroyed(&self) -> Result<Vec<String>, sqlite::Error> {
        let kept = u64::try_from(self.config.keep_destroyed.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.clock.now_ms().saturating_sub(kept);
        self.db.forget(before_ms, MAX_DESTROYED).await
    }

    /// Adds a line of the host's own to a machine's log.
    pub(crate) fn log_line(&self, record: &Record, line: &str) {
        self.logs.line(&record.app.to_string(), &record.id.to_string(), "runner", line);
    }

    /// MiB that a machine's VM may use: its guest's memory and the VM's own.
    pub(crate) fn booked_mib(&self, record: &Record) -> u32 {
        record.memory_mib().saturating_add(self.hypervisor.overhead_mib(record.vcpus()))
    }

    /// The file of a machine's writable disk.
    pub(crate) fn disk_path(&self, record: &Record) -> Utf8PathBuf {
        self.machine_dir(record.id).join(record.scratch_name())
    }

    pub(crate) fn machine_dir(&self, id: MachineId) -> Utf8PathBuf {
        self.config.data_dir.join("machines").join(id.to_string())
    }

    /// Makes a machine's directory, empty.
    pub(crate) async fn make_empty_machine_dir(&self, id: MachineId) -> Result<(), PortError> {
        let dir = self.machine_dir(id);
        let path = dir.clone();
        let made = blocking(move || {
            remove_dir(&path)?;
            std::fs::create_dir_all(&path)
        });
        let made = made.await;
        made.map_err(|err| PortError::new(format!("make an empty directory {dir}"), err))
    }

    /// An image of a machine, pulled if need be.
    pub(crate) async fn ensure_image(
        &self,
        record: &Record,
        name: &str,
        digest: &str,
    ) -> Result<RootImage, ImageError> {
        let (logs, app) = (self.logs.clone(), record.app.to_string());
        let (id, image) = (record.id.to_string(), name.to_owned());
        let pulled = Arc::new(AtomicBool::new(false));
        let first = pulled.clone();
        let report: Progress = Arc::new(move |_, _, _| {
            if !first.swap(true, Ordering::Relaxed) {
                logs.line(&app, &id, "runner", &format!("Pulling container image {image}"));
            }
        });
        let ensure = self.images.ensure(name, digest, report);
        let limit = self.config.image_deadline;
        let begun = Instant::now();
        let image = tokio::time::timeout(limit, ensure).await.unwrap_or_else(|_| {
            let text = format!("image {name} was not there within {limit:?}");
            Err(PortError::plain(text).transient().into())
        });
        if image.is_ok() && pulled.load(Ordering::Relaxed) {
            let took = begun.elapsed().as_secs_f64();
            self.log_line(record, &format!("Successfully prepared image {name} ({took:.1}s)"));
        }
        image
    }

    /// Removes what is left of a machine's network link.
    pub(crate) async fn remove_link(&self, record: &Record) {
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
        loop {
            let path = dir.clone();
            let Err(err) = blocking(move || remove_dir(&path)).await else { return };
            if self.tasks.is_stopping() {
                return;
            }
            tracing::warn!(%dir, error = %err, "cannot remove machine directory, trying again");
            tokio::time::sleep(backoff.pause(&self.rng)).await;
        }
    }
}

/// Runs work on files beside the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|err| Err(io::Error::other(err)))
}

/// Removes a directory with everything in it; an absent one is no error.
pub(crate) fn remove_dir(dir: &Utf8Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Removes a file; an absent one is no error.
pub(crate) fn remove_file(path: &Utf8Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}
