//! A table without a network, for unit tests.

use crate::admission::idle_queue::IdleQueue;
use crate::admission::machine::Machine;
use crate::metrics::Metrics;
use crate::ports::EdgeHost;
use crate::table::app::App;
use crate::table::host::FollowedHost;
use crate::table::shared::SharedTable;
use crate::table::target::Target;
use crate::table::writer::TableWriter;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use host_api::*;
use model::id::{AppId, BootId, Epoch, HostId, InstanceId, MachineId};
use prometheus_client::registry::Registry;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use wire::logs::{LogEntry, LogQuery};
use wire::machines::Service;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: it was allocated by `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread so far.
pub(crate) fn allocations() -> usize {
    ALLOCATIONS.with(Cell::get)
}

/// A host that cannot be reached.
struct Unreachable;

fn unreachable() -> HostError {
    HostError::unreachable("this host is only a name")
}

#[async_trait]
impl Routes for Unreachable {
    async fn routes(&self, _: CallContext) -> Result<RouteSubscription, HostError> {
        Err(unreachable())
    }
}

#[async_trait]
impl Load for Unreachable {
    async fn wake(&self, _: CallContext, _: MachineId) -> Result<(), WakeRefused> {
        Err(unreachable().into())
    }

    async fn stop_idle(&self, _: CallContext, _: MachineId, _: String) -> Result<(), WakeRefused> {
        Err(unreachable().into())
    }

    async fn suspend_idle(
        &self,
        _: CallContext,
        _: MachineId,
        _: String,
    ) -> Result<(), WakeRefused> {
        Err(unreachable().into())
    }

    fn drained(&self, _: MachineId) {}

    fn sessions(&self, _: MachineId) -> usize {
        0
    }
}

#[async_trait]
impl Connections for Unreachable {
    async fn connect(&self, _: CallContext, _: Upstream) -> std::io::Result<Box<dyn GuestStream>> {
        Err(std::io::ErrorKind::HostUnreachable.into())
    }

    async fn guest_connections(
        &self,
        _: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        Err(unreachable())
    }
}

#[async_trait]
impl EventFeed for Unreachable {
    async fn follow_events(
        &self,
        _: CallContext,
        _: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, HostError> {
        Err(unreachable())
    }
}

#[async_trait]
impl Logs for Unreachable {
    async fn logs(
        &self,
        _: CallContext,
        _: AppId,
        _: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        Err(unreachable())
    }

    fn append(&self, _: LogLine) {}
}

/// A host that is only a name.
pub(crate) fn host(number: u16) -> Arc<FollowedHost> {
    Arc::new(FollowedHost::new(EdgeHost::new(HostId(number), Arc::new(Unreachable))))
}

/// The id of the machine that a test calls `name`: up to seven letters or digits.
pub(crate) fn id(name: &str) -> MachineId {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0>14}").parse().unwrap()
}

/// A machine of app `web` that runs and listens on 8080, behind port 80.
pub(crate) fn route(name: &str) -> Route {
    Route {
        app: AppId(1),
        app_name: "web".parse().unwrap(),
        machine: id(name),
        epoch: Epoch(1),
        region: "local".into(),
        instance: InstanceId::new(1, 1),
        boot: Some(BootId::new(1, 1)),
        state: RouteState::Started,
        listening: vec![8080],
        cordoned: false,
        services: services(serde_json::json!([
            {"internal_port": 8080, "ports": [{"port": 80, "handlers": ["http"]}]}
        ])),
        disable_autostart: false,
        primary_region: None,
        last_failure: None,
        suspended: false,
        started_ms: 0,
        stages_ms: Vec::new(),
        health: Vec::new(),
    }
}

pub(crate) fn services(json: serde_json::Value) -> Vec<Service> {
    serde_json::from_value(json).unwrap()
}

/// A table, its writer and one host.
pub(crate) struct Lab {
    pub(crate) table: Arc<SharedTable>,
    pub(crate) writer: TableWriter,
    pub(crate) host: Arc<FollowedHost>,
    position: RoutePosition,
}

impl Lab {
    /// An edge whose listeners stand for `ports`.
    pub(crate) fn new(ports: &[u16]) -> Self {
        let table = Arc::new(SharedTable::new());
        let metrics = Metrics::new(&mut Registry::default(), "local", "0000");
        let idle_queue = Arc::new(IdleQueue::default());
        let writer =
            TableWriter::new(table.clone(), metrics, idle_queue, "local".into(), ports.into());
        let position = RoutePosition { host: HostId(0), epoch: 1, generation: 0 };
        Self { table, writer, host: host(0), position }
    }

    fn apply(&mut self, change: RouteChange) {
        self.position.generation += 1;
        assert!(self.writer.apply(&self.host, self.position, change));
        self.writer.publish();
    }

    /// A machine's route, as [`route`] has it and `tune` changes it.
    pub(crate) fn upsert(&mut self, name: &str, tune: impl FnOnce(&mut Route)) {
        let mut route = route(name);
        tune(&mut route);
        self.apply(RouteChange::Upsert(Box::new(route)));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.apply(RouteChange::Remove { machine: id(name) });
    }

    pub(crate) fn app(&self, name: &str) -> Option<Arc<App>> {
        Some(Arc::clone(&self.table.get(name)?.load()))
    }

    /// The first machine behind port 80.
    pub(crate) fn target(&self, app: &str) -> Target {
        self.app(app).unwrap().targets(&[80]).unwrap()[0].clone()
    }

    /// Publishes, and names the machines of an app, sorted.
    pub(crate) fn machines(&mut self, app: &str) -> Vec<String> {
        self.writer.publish();
        let name = |id: MachineId| {
            let hex = id.to_string();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..7).map(|n| byte(n * 2)).filter(|b| *b != 0).map(char::from).collect::<String>()
        };
        let app = self.app(app);
        let rows = app.iter().flat_map(|app| &app.rows);
        let mut all: Vec<_> = rows.map(|row| name(row.machine.id)).collect();
        all.sort();
        all
    }
}

/// A machine of an app, outside any table.
pub(crate) fn machine() -> Arc<Machine> {
    let mut lab = Lab::new(&[80]);
    lab.upsert("m1", |_| {});
    lab.target("web").machine
}
