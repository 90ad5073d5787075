//! The cluster put together, and what happens to its hosts.

use super::host::{SimulatedHost, node};
use super::{SimulatedNetwork, SimulatedTime};
use camino::{Utf8Path, Utf8PathBuf};
use control::http_api::{HttpApi, HttpConfig};
use control::{Config, Platform};
use edge::ports::{EdgeHost, NoDirectory};
use edge::{Edge, EdgeConfig, Listener};
use host_api::{CallContext, FixedHosts, Status};
use host_remote::{RemoteHost, Role};
use model::address::Ipv4Pool;
use model::id::HostId;
use prometheus_client::registry::Registry;
use rt::{Rng, Tasks};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store_sqlite::SqliteStore;
use tokio::sync::watch;

/// The nodes of the network beside the hosts.
pub(super) const CONTROL: &str = "control";
pub(super) const EDGE: &str = "edge";
/// The admin's token of every cluster.
pub(super) const TOKEN: &str = "fm2_cluster";
/// Time for a call of the test itself. It passes as real time at the fastest.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Time after which what has no answer yet counts as lost.
const ANSWERED: Duration = Duration::from_millis(500);

/// Timeouts that one call may meet one after the other.
const MAX_JUMPS: usize = 10;

/// The shape of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterOptions {
    /// How many hosts; their numbers begin with 1.
    pub hosts: u16,
    /// Of all random numbers that control and workers draw.
    pub seed: u64,
    /// Every host gives its machines addresses of the same pool. Otherwise no two
    /// hosts share any.
    pub same_addresses: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { hosts: 3, seed: 1, same_addresses: false }
    }
}

/// A platform of several hosts in one process.
pub struct Cluster {
    pub(super) time: SimulatedTime,
    pub(super) network: SimulatedNetwork,
    pub(super) store: Arc<dyn Store>,
    pub(super) platform: Platform,
    pub(super) api: HttpApi,
    pub(super) edge: Edge,
    pub(super) tasks: Tasks,
    registry: Registry,
    /// As control calls them.
    pub(super) control_hosts: BTreeMap<HostId, RemoteHost>,
    edge_hosts: BTreeMap<HostId, RemoteHost>,
    hosts: BTreeMap<HostId, SimulatedHost>,
    away: BTreeSet<HostId>,
    _dir: tempfile::TempDir,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Runs a test with a cluster on a time of its own.
    ///
    /// # Panics
    /// The test panics or does not end, or the cluster cannot be made.
    pub fn run(options: ClusterOptions, test: impl AsyncFnOnce(&mut Self)) {
        SimulatedTime::run(async |time| {
            let mut cluster = Self::new(options, time).await;
            test(&mut cluster).await;
            cluster.tasks.stop();
        });
    }

    async fn new(options: ClusterOptions, time: SimulatedTime) -> Self {
        let dir = temporary_dir();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("the path is UTF-8");
        let (tasks, clock) = (Tasks::new(), time.clock());
        let network = SimulatedNetwork::new(tasks.clone());
        let hosts = start_hosts(options, &path, &network, &time);
        let remotes = |from, role| remotes(&network, from, role, hosts.keys(), &tasks);
        let (control_hosts, edge_hosts) =
            (remotes(CONTROL, Role::Control), remotes(EDGE, Role::Edge));
        let store = SqliteStore::open(path.join("global.db").as_std_path(), clock.clone(), &tasks);
        let store: Arc<dyn Store> = Arc::new(store.expect("the store opens"));
        store::records::migrate(&*store).await.expect("the store has its layout");
        let known = control_hosts.values().map(RemoteHost::known).collect();
        let ports = control::Ports {
            store: store.clone(),
            hosts: Arc::new(FixedHosts::new(known)),
            clock,
            rng: Rng::seeded(options.seed),
            tasks: tasks.clone(),
            secrets_key: crate::secrets_key(),
        };
        let platform = Platform::new(Config::default(), ports);
        platform.start_cache();
        control::orgs::ensure_default(&platform).await.expect("there is an organization");
        let token = control::tokens::install_admin_token(&platform, HostId(0), TOKEN);
        token.await.expect("there is a token");
        control::reconcile::start(&platform);
        let mut registry = Registry::default();
        let api = HttpApi::new(platform.clone(), HttpConfig::default(), &mut registry);
        let edge = start_edge(&edge_hosts, &tasks, &mut registry).await;
        Self {
            time,
            network,
            store,
            platform,
            api,
            edge,
            tasks,
            registry,
            control_hosts,
            edge_hosts,
            hosts,
            away: BTreeSet::new(),
            _dir: dir,
        }
    }

    /// Numbers of all hosts.
    pub fn host_ids(&self) -> Vec<HostId> {
        self.hosts.keys().copied().collect()
    }

    /// One host.
    ///
    /// # Panics
    /// There is none of this number.
    pub fn host(&self, id: HostId) -> &SimulatedHost {
        &self.hosts[&id]
    }

    /// A host as control calls it.
    ///
    /// # Panics
    /// There is none of this number.
    pub fn remote(&self, id: HostId) -> &RemoteHost {
        &self.control_hosts[&id]
    }

    /// The global state.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The network between control, edge and hosts.
    pub fn network(&self) -> &SimulatedNetwork {
        &self.network
    }

    /// The metrics of control and edge, as Prometheus reads them.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let written = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        written.expect("metrics can be written");
        text
    }

    /// Kills the worker of a host; its VMs run on.
    ///
    /// # Panics
    /// There is no such host, or the worker cannot be killed.
    pub fn kill(&mut self, id: HostId) {
        self.hosts.get_mut(&id).expect("there is such a host").kill();
    }

    /// Starts the worker of a host again.
    ///
    /// # Panics
    /// There is no such host, or its worker runs.
    pub fn restart(&mut self, id: HostId) {
        self.hosts.get_mut(&id).expect("there is such a host").start();
    }

    /// Cuts a host off: nothing arrives there or comes from there.
    pub fn cut_off(&mut self, id: HostId) {
        self.away.insert(id);
        [CONTROL, EDGE].iter().for_each(|from| self.network.cut(from, &node(id)));
    }

    /// Cuts a host off from control only: the edge still follows it.
    pub fn cut_off_from_control(&mut self, id: HostId) {
        self.away.insert(id);
        self.network.cut(CONTROL, &node(id));
    }

    /// Calls arrive at a host, and their answers are lost.
    pub fn lose_answers(&mut self, id: HostId) {
        self.away.insert(id);
        [CONTROL, EDGE].iter().for_each(|to| self.network.cut_one_way(&node(id), to));
    }

    /// A host that was cut off can be reached again.
    pub fn heal(&mut self, id: HostId) {
        self.away.remove(&id);
        [CONTROL, EDGE].iter().for_each(|from| self.network.heal(from, &node(id)));
    }

    /// Hosts that can be reached.
    pub fn reachable(&self) -> Vec<HostId> {
        let there = self.hosts.iter().filter(|(id, host)| host.runs() && !self.away.contains(id));
        there.map(|(id, _)| *id).collect()
    }

    /// Jumps over `by`: what waits until then is too late.
    pub async fn jump(&self, by: Duration) {
        self.time.advance(by).await;
        self.settle().await;
    }

    /// Does something, and jumps over `by`, also several times, if it does not end
    /// before.
    ///
    /// # Panics
    /// It has no end.
    pub async fn jump_during<T>(&self, by: Duration, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        for _ in 0..MAX_JUMPS {
            // A call that is answered at all is answered much faster.
            if let Ok(done) = tokio::time::timeout(ANSWERED, doing.as_mut()).await {
                return done;
            }
            tokio::select! {
                biased;
                done = doing.as_mut() => return done,
                () = self.jump(by) => {}
            }
        }
        panic!("it does not end within {MAX_JUMPS} jumps over {by:?}");
    }

    /// Waits until control and edge have connections to all hosts that can be
    /// reached, and until those are quiet.
    ///
    /// # Panics
    /// A host does not answer.
    pub async fn settle(&self) {
        for id in self.reachable() {
            for from in [&self.control_hosts, &self.edge_hosts] {
                self.until("the host answers", async || {
                    let context = CallContext::control(PATIENCE);
                    from[&id].info(context).await.is_ok()
                })
                .await;
            }
        }
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// It does not come about.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !holds().await {
                // In simulated time: it costs no real time while nothing happens.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "it does not come about that {what}");
    }
}

/// Memory, where there is such: what is synced to a disk here is thrown away.
fn temporary_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory for a cluster")
}

fn start_hosts(
    options: ClusterOptions,
    dir: &Utf8Path,
    network: &SimulatedNetwork,
    time: &SimulatedTime,
) -> BTreeMap<HostId, SimulatedHost> {
    let start = |number: u16| {
        let id = HostId(number);
        let third = if options.same_addresses { 0 } else { u8::try_from(number).unwrap_or(0) };
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, third, 0), 24).expect("a pool");
        let seed = options.seed.wrapping_mul(1000).wrapping_add(u64::from(number) * 100);
        let mut host = SimulatedHost::new(id, dir, network.clone(), pool, time.clock(), seed);
        host.start();
        (id, host)
    };
    (1..=options.hosts).map(start).collect()
}

fn remotes<'a>(
    network: &SimulatedNetwork,
    from: &str,
    role: Role,
    hosts: impl Iterator<Item = &'a HostId>,
    tasks: &Tasks,
) -> BTreeMap<HostId, RemoteHost> {
    let remote = |id: &HostId| {
        let dial = network.dial(from, &[role], &node(*id));
        (*id, RemoteHost::new(*id, dial, tasks.clone()))
    };
    hosts.map(remote).collect()
}

async fn start_edge(
    hosts: &BTreeMap<HostId, RemoteHost>,
    tasks: &Tasks,
    registry: &mut Registry,
) -> Edge {
    let config = EdgeConfig {
        listeners: vec![Listener { addr: (Ipv4Addr::LOCALHOST, 0).into(), port_as: Some(80) }],
        cores: 0,
        ..EdgeConfig::default()
    };
    let hosts = hosts.values().map(|host| EdgeHost::from(host.known())).collect();
    // The list never changes; it stays valid without its sender.
    let hosts = watch::channel(hosts).1;
    let edge = Edge::start(config, hosts, Arc::new(NoDirectory), tasks.clone(), registry).await;
    edge.expect("the edge starts")
}
