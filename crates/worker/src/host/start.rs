//! The start of a host.

use super::registry::{Host, Worker};
use super::start_error::StartError;
use super::{low_space, recovery, retention, unrecorded};
use crate::capacity::Capacity;
use crate::checks::board::CheckBoard;
use crate::context::{BlockedSlots, HostConfig, HostContext, Ports};
use crate::cpu::controller;
use crate::cpu::table::CpuTable;
use crate::event_feed::Feed;
use crate::guest_connections::GuestConnections;
use crate::logs::export::{self, AppNames, ExportMetrics};
use crate::logs::{self, LogStore};
use crate::machine::Handle;
use crate::metrics::Metrics;
use crate::routes::RouteHub;
use crate::schedules::requests::RunRequests;
use crate::secrets;
use crate::sessions::Sessions;
use crate::template_queue::TemplateQueue;
use crate::templates;
use crate::volumes::sizes::VolumeSizes;
use camino::Utf8PathBuf;
use model::id::{AppId, MachineId};
use prometheus_client::registry::Registry;
use rt::Tasks;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Snapshots that are written at a time. This spreads out the suspends of many
/// machines: one that waits for its turn keeps running.
const SNAPSHOT_WRITERS: usize = 2;
/// Health checks that run at a time. One that hangs holds its place until its timeout.
const CHECKS: usize = 256;

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
        let volumes = config.data_dir.join("volumes");
        std::fs::create_dir_all(&volumes).map_err(failed(&volumes))?;
        let dir = config.data_dir.join("logs");
        let (region, clock) = (config.region.clone(), ports.clock.clone());
        let store =
            LogStore::open(dir.clone(), region, config.logs, clock, tasks.failure_handler());
        let logs = Arc::new(store.map_err(failed(&dir))?);
        let failures = tasks.failure_handler();
        let db = unrecorded::open_database(&config, &*ports.hypervisor, failures).await?;
        let epoch = db.next_epoch().await.map_err(StartError::Database)?;
        let context = Arc::new(HostContext {
            capacity: Capacity::new(bookable_mib(&config)),
            checks: CheckBoard::default(),
            cpu: CpuTable::default(),
            check_slots: Semaphore::new(CHECKS),
            metrics_turn: tokio::sync::Mutex::new(()),
            run_requests: RunRequests::default(),
            templates: TemplateQueue::default(),
            snapshot_writers: Arc::new(Semaphore::new(SNAPSHOT_WRITERS)),
            metrics: Metrics::new(registry),
            blocked_slots: BlockedSlots::default(),
            volume_sizes: VolumeSizes::default(),
            routes: RouteHub::new(config.host, epoch),
            events: Feed::new(db.clone(), config.region.clone()),
            config,
            hypervisor: ports.hypervisor,
            network: ports.network,
            images: ports.images,
            disks: ports.disks,
            guest_api: ports.guest_api,
            guest_connections: GuestConnections::default(),
            connector: ports.connector,
            sessions: Sessions::default(),
            secrets_key: ports.secrets_key,
            clock: ports.clock,
            rng: ports.rng,
            tasks,
            db,
            logs,
        });
        context.network.prepare().await.map_err(StartError::Port)?;
        let host = Arc::new(Host::new(context));
        recovery::recover(&host, ports.owners.as_deref()).await?;
        templates::start(&host.context);
        let forget = secrets::forget_unused(host.context.clone());
        host.context.tasks.spawn_service("the removal of unused secrets", forget);
        let events = host.context.events.clone().run();
        host.context.tasks.spawn_service("the feed of events", events);
        let forget = forget_destroyed(host.clone());
        host.context.tasks.spawn_service("the removal of records of destroyed machines", forget);
        let (db, tasks) = (&host.context.db, &host.context.tasks);
        let (names, source) = (app_names(&host), host.context.logs.export_source().await);
        let with = (db, names, &host.context.rng);
        let exports = ExportMetrics::new(registry);
        let started = export::start(&source, ports.log_sinks, with, &exports, tasks).await;
        started.map_err(StartError::Database)?;
        let sweep = logs::sweep_regularly(host.context.logs.clone());
        host.context.tasks.spawn_service("the retention of logs", sweep);
        let watch = low_space::watch(host.clone());
        host.context.tasks.spawn_service("the watch of the disk", watch);
        let machines = host.clone();
        let views = move || machines.handles().iter().map(Handle::view).collect();
        controller::start(&host.context, Box::new(views));
        Ok(Self(host))
    }
}

/// Names of apps by the names of their logs: those of its machines are their ids, its own has
/// its number.
fn app_names(host: &Arc<Host>) -> AppNames {
    let host = host.clone();
    Arc::new(move |log| {
        let name = |handle: Handle| handle.view().record.app_name.to_string();
        let known = match log.parse::<MachineId>() {
            Ok(id) => host.handle(id).map(name),
            Err(_) => {
                let app = log.strip_prefix(logs::APP).and_then(|app| app.parse().ok()).map(AppId);
                let of_app = |handle: &Handle| Some(handle.view().record.app) == app;
                host.handles().into_iter().find(of_app).map(name)
            }
        };
        known.unwrap_or_else(|| log.to_owned())
    })
}

/// Forgets machines that were destroyed long ago, also if no other is destroyed.
async fn forget_destroyed(host: Arc<Host>) {
    loop {
        tokio::time::sleep(retention::EVERY).await;
        host.try_forget_destroyed(Some(retention::MAX_BYTES)).await;
    }
}

/// MiB that may be booked. A factor that is no number above 1 changes nothing.
fn bookable_mib(config: &HostConfig) -> u64 {
    (config.memory_mib as f64 * config.overcommit.max(1.0)) as u64
}
