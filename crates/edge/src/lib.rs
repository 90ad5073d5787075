//! The proxy: match a route, wake, balance, forward.
//!
//! A request's way: [`listen`] takes the connection, [`http`] reads the request,
//! [`routing`] names the app and picks a machine of it from the [`table`],
//! [`admission`] holds the request until a machine takes it and wakes one if need
//! be, [`upstream`] connects to the machine through its host. No database and no
//! lock shared by cores is on that way.
//!
//! # Which service a listener means
//!
//! A listener serves one outside port of services, or, without `port_as`,
//! for its own number, else 80, else 443: the first that the app has an `http`
//! service on. TLS is not served yet, so `["tls", "http"]` on 443 is reached in
//! plaintext, and `force_https` has no effect (it would be an endless redirect).
//! Raw TCP and UDP are not served yet; such requests get UR02.
//!
//! # When nothing runs, or all is full
//!
//! A request to an app of which all machines sleep is held, body unread, and
//! one machine is woken for all who wait; more only if more wait than the soft
//! limits of those on their way up. If all that run are at their soft limit, one
//! more is woken, and the request goes to a running one without waiting for it.
//! At the hard limits requests wait in the edge.
//!
//! # Retries
//!
//! A request that no app has had is tried again elsewhere, or on the same machine
//! after a pause. One that an app has had is sent again once, and only if it has no
//! body and an idempotent method, and the connection ended before one byte of an
//! answer: an app that dies of a request must not take all machines along. A
//! malformed answer is never asked for again. Others fail with PU02.
//!
//! A machine that has come up announces its ports before its guest has run an
//! instruction. Until one request has been able to connect, a connect that fails is
//! no failure: it is tried again within milliseconds, and a request that waits for a
//! wake keeps waiting until the wake's own timeout.
//!
//! # Answers of the edge itself
//!
//! | status | codes |
//! |---|---|
//! | 400 | UR03 no host, UR05 cannot be forwarded or has a malformed body |
//! | 404 | UR01 no such app, UR02 no http service on this port |
//! | 431 | head too large, without a body |
//! | 502 | PC01 refused, PC03 reset, PC06 other connect error, PR03 attempts used up, PU02 no answer or a malformed one, PU03 host unreachable |
//! | 503 | UR06 the edge stops, PR01 no machine may take it, PR02 gone, PM07 start failed or no room, PM08 not startable, PL01, PL02 hard limits |
//! | 504 | PM03 not listening in time, PC05 connect timed out, UR04 app silent |

mod admission;
mod config;
mod http;
mod listen;
mod metrics;
pub mod ports;
mod routing;
mod shared;
mod table;
mod upstream;

pub use admission::interface::{Admission, AdmissionRequest};
pub use admission::permit::Permit;
pub use admission::refusal::Refusal;
pub use config::{EdgeConfig, Listener};
pub use http::code::{Code, Entry};

use ::http::HeaderValue;
use admission::interface::LocalAdmission;
use host_api::GuestStream;
use listen::accept::{Cores, accept};
use listen::connections::{Connections, allowed_by_open_files};
use listen::core_thread::{ClientStream, start_core, start_core_here};
use listen::heartbeat;
use ports::{Directory, EdgeHost};
use prometheus_client::registry::Registry;
use rt::health::WatchdogLimits;
use shared::Shared;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use table::host::FollowedHosts;
use table::shared::SharedTable;
use table::writer::TableWriter;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use upstream::budget::UpstreamBudget;

/// Why the edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No listener or domain, or a text that is no header value.
    #[error("the edge's settings are not valid: {0}")]
    Config(&'static str),
    /// An address cannot be listened on.
    #[error("listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// A thread or its runtime cannot be made.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

/// An edge whose addresses are bound and that does not serve yet: clients wait in the
/// kernel's queues meanwhile. Dropping it frees the addresses.
#[derive(Debug)]
pub struct BoundEdge {
    config: EdgeConfig,
    listeners: Vec<Bound>,
}

/// A running edge. It stops with the tasks it was given.
pub struct Edge {
    shared: Arc<Shared>,
    cores: Cores,
    listeners: Vec<(SocketAddr, Arc<[u16]>)>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Edge {
    /// Binds the addresses; what could keep the edge from serving is found out now.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(config: EdgeConfig) -> Result<BoundEdge, StartError> {
        check(&config)?;
        let listeners = bind(&config).await?;
        Ok(BoundEdge { config, listeners })
    }

    /// Binds the addresses and starts.
    ///
    /// # Errors
    /// Those of [`Edge::bind`] and [`BoundEdge::start`].
    pub async fn start(
        config: EdgeConfig,
        hosts: watch::Receiver<Vec<EdgeHost>>,
        directory: Arc<dyn Directory>,
        tasks: rt::Tasks,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        Self::bind(config).await?.start(hosts, directory, tasks, registry).await
    }

    /// The addresses it listens on, in the order of the settings.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(addr, _)| *addr).collect()
    }

    /// Serves a stream that was accepted elsewhere as if it had come to the first
    /// listener.
    pub fn serve_stream(&self, stream: Box<dyn GuestStream>, peer: SocketAddr) {
        if let Some((local, ports)) = self.listeners.first() {
            self.cores.hand_over(ClientStream::Other(stream), (peer, *local), ports.clone());
        }
    }

    /// What other edges are to ask about the machines of this edge's hosts. Not used yet.
    pub fn admission(&self) -> Arc<dyn Admission> {
        Arc::new(LocalAdmission(self.shared.clone()))
    }
}

impl BoundEdge {
    /// Learns the table of `hosts`, and serves until `tasks` stop; their shutdown waits
    /// until requests in flight are done, at most `config.drain`.
    ///
    /// # Errors
    /// [`StartError::Thread`]; then nothing is left running.
    pub async fn start(
        self,
        hosts: watch::Receiver<Vec<EdgeHost>>,
        directory: Arc<dyn Directory>,
        tasks: rt::Tasks,
        registry: &mut Registry,
    ) -> Result<Edge, StartError> {
        let Self { config, listeners } = self;
        let table = Arc::new(SharedTable::new());
        let host = format!("{:04x}", config.host.0);
        let metrics = metrics::Metrics::new(registry, &config.region, &host);
        table::metrics::register(registry, table.clone(), &config.region, &host);
        let allowed = allowed_connections();
        let shared = Arc::new(Shared {
            directory,
            table: table.clone(),
            hosts: FollowedHosts::default(),
            unplaced_logged: Default::default(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            main: tokio::runtime::Handle::current(),
            clock: rt::Clock::system(),
            born: tokio::time::Instant::now(),
            idle_queue: Arc::default(),
            connections: Arc::new(places(&config, allowed)),
            upstream: Arc::new(UpstreamBudget::new(allowed.min(config.max_upstream))),
            config,
        });
        let (cores, ends) = start_cores(&shared)?;
        let ports = all_ports(&listeners);
        let (queue, region) = (shared.idle_queue.clone(), shared.config.region.clone());
        let writer = TableWriter::new(table, metrics, queue, region, ports);
        table::follow::follow(&shared, writer, hosts).await;
        tasks.spawn_service("the edge's autostop", admission::autostop::watch(shared.clone()));
        let mut bound = Vec::new();
        for (listener, addr, ports) in listeners {
            bound.push((addr, ports.clone()));
            tasks.spawn_service("an acceptor of the edge", accept(listener, ports, cores.clone()));
        }
        tasks.spawn(async move {
            for end in ends {
                // An error means that the thread has ended, too.
                let _ = end.await;
            }
        });
        Ok(Edge { shared, cores, listeners: bound })
    }
}

type Ends = Vec<oneshot::Receiver<()>>;

fn start_cores(shared: &Arc<Shared>) -> Result<(Cores, Ends), StartError> {
    let mut to = Vec::new();
    let mut ends = Vec::new();
    let cores = shared.config.cores;
    let (tasks, health) = (&shared.tasks, shared.config.health.clone());
    let beats = heartbeat::watch(cores, tasks, health, WatchdogLimits::default());
    let beats = beats.map_err(StartError::Thread)?;
    // Dropping the senders ends the cores that were started.
    for number in 0..shared.config.cores {
        let started = start_core(shared.clone(), number, beats.clone());
        let (give, end) = started.map_err(StartError::Thread)?;
        to.push(give);
        ends.push(end);
    }
    if to.is_empty() {
        to.push(start_core_here(shared.clone()));
    }
    Ok((Cores::new(shared.clone(), to), ends))
}

/// As many client connections, and as many to machines, as the process's limit of open
/// files allows.
fn allowed_connections() -> usize {
    use rustix::process::{Resource, getrlimit};
    allowed_by_open_files(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// As many places as the settings and the process's limit of open files allow.
fn places(config: &EdgeConfig, allowed: usize) -> Connections {
    if allowed < config.max_connections {
        tracing::warn!("the limit of open files leaves room for {allowed} client connections only");
    }
    Connections::new(config.max_connections.min(allowed), config.max_connections_per_source)
}

fn all_ports(listeners: &[Bound]) -> Vec<u16> {
    let mut all: Vec<u16> = listeners.iter().flat_map(|(_, _, ports)| ports.to_vec()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn check(config: &EdgeConfig) -> Result<(), StartError> {
    for (bad, what) in [
        (config.listeners.is_empty(), "there is no listener"),
        (config.domains.is_empty(), "there is no domain"),
        (HeaderValue::from_str(&config.region).is_err(), "the region is no header value"),
        (HeaderValue::from_str(&config.server).is_err(), "the server name is no header value"),
    ] {
        if bad {
            return Err(StartError::Config(what));
        }
    }
    Ok(())
}

type Bound = (TcpListener, SocketAddr, Arc<[u16]>);

async fn bind(config: &EdgeConfig) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let failed = |err| StartError::Listen { addr: listener.addr, err };
        let socket = TcpListener::bind(listener.addr).await.map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        let mut ports = match listener.port_as {
            Some(port) => vec![port],
            None => vec![addr.port(), 80, 443],
        };
        // The first stays: it is the port that clients see.
        let own = ports[0];
        ports[1..].iter().position(|p| *p == own).map(|at| ports.remove(at + 1));
        bound.push((socket, addr, ports.into()));
    }
    Ok(bound)
}
