//! The worker of this process as the host that the edge calls, until the worker
//! implements `host-api` itself.
//!
//! It gives what the worker's own messages lack: ids of apps, by name and for the
//! life of the process, and of boots, one for each way from down to up.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use host_api::{
    CallContext, Connections, GuestConnection, GuestStream, HostError, Load, LogLine, Logs, Route,
    RouteChange, RoutePosition, RouteSnapshot, RouteState, RouteSubscription, Routes, Upstream,
    WakeRefused,
};
use model::id::{AppId, BootId, Epoch, HostId, MachineId};
use network_linux::NamespaceSockets;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use wire::logs::{LogEntry, LogQuery};
use wire::routes::{self as old};
use worker::Worker;

/// Changes that the edge may be behind.
const BEHIND: usize = 4096;

/// The worker of this process.
pub(super) struct WorkerHost {
    worker: Worker,
    sockets: NamespaceSockets,
    tasks: rt::Tasks,
    known: Arc<Mutex<Known>>,
    id: HostId,
    /// When the worker was started: grows with each start.
    epoch: u64,
}

#[derive(Default)]
struct Known {
    apps: HashMap<String, AppId>,
    names: HashMap<AppId, String>,
    boots: HashMap<MachineId, Boot>,
    next_boot: u128,
}

/// The run of a machine's VM, and where it is reached.
#[derive(Clone, Copy)]
struct Boot {
    id: Option<BootId>,
    address: Ipv4Addr,
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorkerHost {
    pub(super) fn new(
        id: HostId,
        worker: Worker,
        sockets: NamespaceSockets,
        tasks: rt::Tasks,
        epoch: u64,
    ) -> Self {
        Self { worker, sockets, tasks, known: Arc::default(), id, epoch }
    }
}

impl Known {
    fn app(&mut self, name: &str) -> AppId {
        if let Some(id) = self.apps.get(name) {
            return *id;
        }
        let id = AppId(u32::try_from(self.apps.len()).unwrap_or(u32::MAX));
        self.apps.insert(name.to_owned(), id);
        self.names.insert(id, name.to_owned());
        id
    }

    /// `None` if the route has a name or id that is not valid.
    fn route(&mut self, from: old::Route) -> Option<Route> {
        use old::RouteState as Old;
        let machine: MachineId = from.machine.parse().ok()?;
        let before = self.boots.get(&machine).and_then(|boot| boot.id);
        let (state, boot) = match from.state {
            Old::Unavailable => (RouteState::Unavailable, None),
            Old::Asleep => (RouteState::Asleep, None),
            Old::Stopping => (RouteState::Stopping, before),
            Old::Starting | Old::Started => {
                self.next_boot += 1;
                let boot = before.unwrap_or(BootId::new(0, self.next_boot));
                let is_up = from.state == Old::Started;
                let state = if is_up { RouteState::Started } else { RouteState::Starting };
                (state, Some(boot))
            }
        };
        self.boots.insert(machine, Boot { id: boot, address: from.address });
        Some(Route {
            app: self.app(&from.app),
            app_name: from.app.parse().ok()?,
            machine,
            epoch: Epoch(0),
            region: from.region,
            instance: from.instance.parse().ok()?,
            boot,
            state,
            listening: from.listening,
            cordoned: from.cordoned,
            services: from.services,
            disable_autostart: false,
            primary_region: from.primary_region,
            last_failure: from.last_failure,
            suspended: from.suspended,
            started_ms: 0,
            stages_ms: from.stages_ms,
        })
    }

    fn change(&mut self, from: old::RouteChange) -> Option<RouteChange> {
        match from {
            old::RouteChange::Upsert(route) => {
                self.route(*route).map(|route| RouteChange::Upsert(Box::new(route)))
            }
            old::RouteChange::Remove { machine } => {
                let machine = machine.parse().ok()?;
                self.boots.remove(&machine);
                Some(RouteChange::Remove { machine })
            }
        }
    }
}

#[async_trait]
impl Routes for WorkerHost {
    async fn routes(&self, _context: CallContext) -> Result<RouteSubscription, HostError> {
        let (snapshot, mut from) = self.worker.subscribe();
        let position =
            RoutePosition { host: self.id, epoch: self.epoch, generation: snapshot.generation };
        let mut known = lock(&self.known);
        let routes = snapshot.routes.into_iter().filter_map(|route| known.route(route)).collect();
        drop(known);
        let (to, changes) = mpsc::channel(BEHIND);
        let (acknowledge, _acknowledged) = mpsc::channel(1);
        let known = self.known.clone();
        self.tasks.spawn_until_stop(async move {
            while let Some((generation, change)) = from.recv().await {
                let change = lock(&known).change(change);
                // A change left out is a gap: the edge asks again.
                let Some(change) = change else { continue };
                if to.send((generation, change)).await.is_err() {
                    return;
                }
            }
        });
        let snapshot = RouteSnapshot { position, routes };
        Ok(RouteSubscription { snapshot, changes, acknowledge })
    }
}

fn refused(why: old::WakeRefused) -> WakeRefused {
    match why {
        old::WakeRefused::Gone => WakeRefused::Gone,
        old::WakeRefused::NotStartable(why) => WakeRefused::NotStartable(why),
        old::WakeRefused::NoCapacity(why) => WakeRefused::NoCapacity(why),
        old::WakeRefused::Failed(why) => WakeRefused::Failed(why),
    }
}

#[async_trait]
impl Load for WorkerHost {
    async fn wake(&self, _context: CallContext, id: MachineId) -> Result<(), WakeRefused> {
        self.worker.wake(&id.to_string()).await.map_err(refused)
    }

    async fn stop_idle(
        &self,
        _context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused> {
        self.worker.stop_idle(&id.to_string(), &reason).await.map_err(refused)
    }

    async fn suspend_idle(
        &self,
        _context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused> {
        self.worker.suspend_idle(&id.to_string(), &reason).await.map_err(refused)
    }

    fn drained(&self, id: MachineId) {
        self.worker.drained(&id.to_string());
    }

    // The worker does not count them yet.
    fn sessions(&self, _id: MachineId) -> usize {
        0
    }
}

#[async_trait]
impl Connections for WorkerHost {
    async fn connect(
        &self,
        _context: CallContext,
        upstream: Upstream,
    ) -> io::Result<Box<dyn GuestStream>> {
        let boot = lock(&self.known).boots.get(&upstream.machine).copied();
        let boot = boot.filter(|boot| boot.id == Some(upstream.boot)).ok_or(ErrorKind::NotFound)?;
        let stream = self.sockets.connect(SocketAddrV4::new(boot.address, upstream.port)).await?;
        // Best effort: without it small requests are only slower.
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }

    async fn guest_connections(
        &self,
        _context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        Err(HostError::Unsupported("guests are served by this process directly".into()))
    }
}

#[async_trait]
impl Logs for WorkerHost {
    async fn logs(
        &self,
        _context: CallContext,
        app: AppId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        let name = lock(&self.known).names.get(&app).cloned();
        let name = name.ok_or_else(|| HostError::NotFound(format!("no app {app} here")))?;
        Ok(self.worker.logs(&name, &query).await)
    }

    fn append(&self, line: LogLine) {
        let Some(app) = lock(&self.known).names.get(&line.app).cloned() else { return };
        match line.machine {
            Some(machine) => {
                let machine = machine.to_string();
                self.worker.log_line(&app, &machine, &line.provider, &line.message);
            }
            None => tracing::info!(app, line = line.message, "edge"),
        }
    }
}
