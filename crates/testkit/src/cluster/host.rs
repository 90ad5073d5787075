//! One host of a cluster: a world, and a worker that can be killed.
//!
//! The worker has a thread and a runtime of its own, whose end is like `kill -9`:
//! nothing is asked to stop. VMs, links and files stay in the [`World`].

use super::{GuestApps, SimulatedNetwork};
use crate::World;
use camino::Utf8Path;
use host_remote::Server;
use model::address::Ipv4Pool;
use model::id::HostId;
use prometheus_client::registry::Registry;
use rt::{Clock, Rng, Tasks};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use worker::ports::Shape;
use worker::{HostConfig, Worker};

/// Time for a killed worker to let go of its files, in milliseconds.
const CLOSE_MS: usize = 10_000;

/// A host and what remains of it when its worker is killed.
#[derive(Debug)]
pub struct SimulatedHost {
    id: HostId,
    world: World,
    network: SimulatedNetwork,
    pool: Ipv4Pool,
    clock: Clock,
    seed: u64,
    worker: Option<Running>,
}

/// Dropping the sender kills the worker.
#[derive(Debug)]
struct Running {
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl SimulatedHost {
    /// A host whose worker does not run yet. Its machines have addresses of `pool`.
    pub(super) fn new(
        id: HostId,
        dir: &Utf8Path,
        network: SimulatedNetwork,
        pool: Ipv4Pool,
        clock: Clock,
        seed: u64,
    ) -> Self {
        let world = World::new(&dir.join(node(id)));
        // Nothing is made beside what a test looks at.
        world.hypervisor.add_template(Shape { vcpus: 1, memory_mib: 256 });
        Self { id, world, network, pool, clock, seed, worker: None }
    }

    /// The state that outlives the worker.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Whether its worker runs.
    pub fn runs(&self) -> bool {
        self.worker.is_some()
    }

    /// Starts the worker; returns once it takes calls.
    ///
    /// # Panics
    /// It runs already, or cannot be started.
    pub fn start(&mut self) {
        assert!(self.worker.is_none(), "the worker of host {} runs already", self.id);
        // Another stream of random numbers than the worker before.
        self.seed += 1;
        let (kill, killed) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let (world, network, name) = (self.world.clone(), self.network.clone(), node(self.id));
        let config = self.config();
        let mut ports = world.ports(self.clock.clone(), Rng::seeded(self.seed));
        ports.connector = Arc::new(GuestApps::new(world.clone()));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime for a host");
            runtime.block_on(async move {
                let tasks = Tasks::new();
                let mut registry = Registry::default();
                let worker = Worker::start(config, ports, tasks.clone(), &mut registry).await;
                let worker = worker.expect("the worker starts");
                network.serve(&name, Server::new(Arc::new(worker), tasks));
                // The test may be over.
                let _ = ready.send(());
                // Both a message and the end of the sender mean the same.
                let _ = killed.await;
            });
            drop(runtime);
            wait_until_closed(&world);
        };
        let thread = std::thread::Builder::new().name(node(self.id)).spawn(run);
        let thread = thread.expect("a thread for a host");
        self.worker = Some(Running { kill, thread });
        started.recv().expect("the worker starts");
    }

    /// `kill -9` of the worker; returns once nothing of it is left.
    pub fn kill(&mut self) {
        let Some(Running { kill, thread }) = self.worker.take() else {
            // The next worker is not to hang at a point that was meant for this one.
            return self.world.points.disarm();
        };
        self.network.remove(&node(self.id));
        drop(kill);
        let ended = thread.join();
        self.world.points.disarm();
        // A test that fails is not to fail once more.
        if !std::thread::panicking() {
            ended.expect("the worker can be killed");
        }
    }

    fn config(&self) -> HostConfig {
        HostConfig {
            host: self.id,
            name: node(self.id),
            region: "here".into(),
            region_codes: Vec::new(),
            region_aliases: Vec::new(),
            data_dir: self.world.data_dir().into(),
            pool: self.pool,
            mtu: 1420,
            memory_mib: 16 * 1024,
            overcommit: 1.0,
            cpus: 2,
            nameservers: worker::NameServers::fixed(Vec::new()),
            boot_deadline: Duration::from_secs(60),
            image_deadline: Duration::from_secs(60),
            templates: Vec::new(),
            cpu_baseline: false,
            logs: worker::LogLimits::default(),
            keep_destroyed: Duration::from_secs(24 * 3600),
            discard_unrecorded: false,
        }
    }
}

impl Drop for SimulatedHost {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The name of a host in the network.
pub(super) fn node(id: HostId) -> String {
    format!("host-{id}")
}

/// The thread that writes the database ends with its last caller; until then it
/// could still write, which a killed worker's could not.
fn wait_until_closed(world: &World) {
    let db = world.data_dir().join("host.db");
    let is_open = || {
        let open = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|path| path == db)
    };
    for _ in 0..CLOSE_MS {
        if !is_open() {
            return;
        }
        // Polled: nothing announces that a file of this process is closed.
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the killed worker is still referenced");
}
