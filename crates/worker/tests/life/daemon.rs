//! A daemon that can be killed at any moment, on a host that keeps running.
//!
//! It runs in a runtime of its own, which only moves while the test is inside
//! [`Daemon::run`], and whose end is like `kill -9`: nothing is asked to stop.

use crate::apps::Apps;
use crate::faulty::Faults;
use camino::Utf8Path;
use model::address::Ipv4Pool;
use model::id::HostId;
use rt::{Clock, Rng, Tasks};
use std::net::Ipv4Addr;
use std::time::Duration;
use testkit::World;
use tokio::runtime::{Builder, Runtime};
use worker::ports::Shape;
use worker::{HostConfig, NameServers, StartError, Worker};

/// A test that has not come to its end by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Settings that tests vary.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) boot_deadline: Duration,
    pub(crate) memory_mib: u64,
    /// Time is paused and is advanced by the test.
    pub(crate) paused: bool,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    /// Made ahead of time.
    pub(crate) templates: Vec<Shape>,
    pub(crate) faults: Faults,
    /// What the apps of all machines do; `None` has no guest that can be reached.
    pub(crate) apps: Option<Apps>,
    pub(crate) discard_unrecorded: bool,
    pub(crate) cpu_baseline: bool,
    pub(crate) name_servers: NameServers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            boot_deadline: Duration::from_secs(20),
            memory_mib: 4096,
            paused: false,
            clock: Clock::system(),
            seed: 1,
            templates: Vec::new(),
            faults: Faults::default(),
            apps: None,
            discard_unrecorded: false,
            cpu_baseline: false,
            name_servers: NameServers::fixed(Vec::new()),
        }
    }
}

pub(crate) struct Daemon {
    worker: Option<Worker>,
    world: World,
    /// Keeps paused time from moving by itself; closed before the runtime ends.
    still: Option<std::sync::mpsc::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Daemon {
    /// A daemon that has not begun yet.
    pub(crate) fn new(world: &World, settings: &Settings) -> Self {
        // After every poll of a task the test's own future is looked at, so
        // that it can end the daemon between any two.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(1)
            .start_paused(settings.paused)
            .build()
            .unwrap();
        let still = settings.paused.then(|| {
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            // Paused time does not move while blocking work is under way.
            drop(runtime.spawn_blocking(move || receiver.recv()));
            sender
        });
        Self { worker: None, world: world.clone(), still, runtime: Some(runtime) }
    }

    /// Opens the host's state and takes over what runs.
    pub(crate) async fn begin(world: &World, settings: &Settings) -> Worker {
        Self::try_begin(world, settings, Tasks::new()).await.expect("the daemon starts")
    }

    /// The same with an owner of its tasks, for a daemon that may be refused or stopped.
    pub(crate) async fn try_begin(
        world: &World,
        settings: &Settings,
        tasks: Tasks,
    ) -> Result<Worker, StartError> {
        let config = HostConfig {
            host: HostId(1),
            name: "one".into(),
            region_codes: Vec::new(),
            region_aliases: Vec::new(),
            region: "here".into(),
            data_dir: world.data_dir().into(),
            pool: Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap(),
            mtu: 1420,
            memory_mib: settings.memory_mib,
            cpus: 2,
            nameservers: settings.name_servers.clone(),
            boot_deadline: settings.boot_deadline,
            image_deadline: Duration::from_secs(60),
            overcommit: 1.0,
            templates: settings.templates.clone(),
            logs: worker::LogLimits::default(),
            keep_destroyed: Duration::from_secs(24 * 3600),
            discard_unrecorded: settings.discard_unrecorded,
            cpu_baseline: settings.cpu_baseline,
        };
        let ports = world.ports(settings.clock.clone(), Rng::seeded(settings.seed));
        let mut ports = settings.faults.wrap(ports);
        if let Some(apps) = &settings.apps {
            ports.connector = std::sync::Arc::new(apps.clone());
        }
        let mut registry = prometheus_client::registry::Registry::default();
        Worker::start(config, ports, tasks, &mut registry).await
    }

    /// A daemon that has begun.
    pub(crate) fn start(world: &World, settings: &Settings) -> Self {
        let mut daemon = Self::new(world, settings);
        let worker = daemon.run(Self::begin(world, settings));
        daemon.worker = Some(worker);
        daemon
    }

    pub(crate) fn worker(&self) -> Worker {
        self.worker.clone().expect("the daemon has begun")
    }

    /// Lets the daemon run until `future` ends.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let (late, overdue) = tokio::sync::oneshot::channel::<()>();
        // The daemon's own time may be paused.
        self.world.hypervisor.outside(async move {
            tokio::time::sleep(PATIENCE).await;
            // The test has ended meanwhile.
            let _ = late.send(());
        });
        self.runtime.as_ref().expect("the daemon lives").block_on(async {
            tokio::select! {
                biased;
                out = future => out,
                _ = overdue => panic!("nothing happened for {PATIENCE:?}"),
            }
        })
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.still = None;
        self.worker = None;
        self.runtime = None;
        wait_until_closed(self.world.data_dir());
        self.world.points.disarm();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.runtime.is_some() {
            self.end();
        }
    }
}

/// The thread that writes the database ends with its last caller; until then it
/// could still write, which a killed daemon's could not.
fn wait_until_closed(data_dir: &Utf8Path) {
    let db = data_dir.join("host.db");
    let is_open = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|path| path == db)
    };
    let begun = std::time::Instant::now();
    while is_open() {
        assert!(begun.elapsed() < PATIENCE, "the daemon is still referenced");
        std::thread::yield_now();
    }
}
