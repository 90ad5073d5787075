//! The proxy: match a route, wake, balance, forward.
//!
//! A request's way: [`listen`] takes the connection, [`route`] names the app,
//! [`hold`] finds a place at a machine ([`balance`] decides, [`wake`] wakes),
//! [`proxy`] forwards over [`upstream`], [`tunnel`] carries what was upgraded.
//! No database and no lock shared by cores is on that way.
//!
//! # Which service a listener means
//!
//! A listener stands for one outside port of services, or, without `port_as`,
//! for its own number, else 80, else 443: the first that the app has an `http`
//! service on. TLS is not served yet, so `["tls", "http"]` on 443 is reached in
//! plaintext, and `force_https` has no effect (it would be an endless redirect).
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
//! A request that no app has seen is tried again elsewhere, or on the same
//! machine after a pause. One that an app may have seen is repeated only if it
//! has no body and an idempotent method. Others fail with PU02.
//!
//! A machine that has come up is said to listen before its guest has run an
//! instruction. Until somebody has been able to connect to it, a connect that
//! fails is no failure: it is tried again within milliseconds, and a request
//! that waits for a wake goes on waiting until the wake's own time is over.
//!
//! # Answers of the edge itself
//!
//! | status | codes |
//! |---|---|
//! | 400 | UR03 no host, UR05 cannot be forwarded |
//! | 404 | UR01 no such app, UR02 no http service on this port |
//! | 431 | head too large, without a body |
//! | 502 | PC01 refused, PC03 reset, PC06 other connect error, PR03 attempts used up, PU02 no answer |
//! | 503 | PR01 no machine may take it, PR02 gone, PM07 start failed or no room, PM08 not startable, PL01, PL02 hard limits |
//! | 504 | PM03 not listening in time, PC05 connect timed out, UR04 app silent |

mod autostop;
mod balance;
mod body;
mod client_io;
mod config;
mod core;
mod drain;
mod errors;
mod follow;
mod headers;
mod hold;
mod listen;
mod machine;
mod metrics;
pub mod ports;
mod proxy;
mod route;
mod table;
mod timing;
mod tunnel;
mod upstream;
mod wake;

pub use config::{EdgeConfig, Listener};
pub use errors::Code;

use crate::core::Shared;
use http::HeaderValue;
use ports::Workers;
use prometheus_client::registry::Registry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use table::{Cell, Keeper};
use tokio::net::TcpListener;

/// Why the edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No listener, domain or core, or a text that is no header value.
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

/// A running edge. It stops with the tasks it was given.
#[derive(Debug)]
pub struct Edge {
    addrs: Vec<SocketAddr>,
}

impl Edge {
    /// Listens, learns the table, and serves until `tasks` stop; their shutdown
    /// waits until requests in flight are done, at most `config.drain`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start(
        config: EdgeConfig,
        workers: Arc<dyn Workers>,
        tasks: rt::Tasks,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let server = check(&config)?;
        let listeners = bind(&config).await?;
        let cell = Arc::new(Cell::new());
        let metrics = metrics::Metrics::new(registry, &cell);
        let mut all_ports: Vec<u16> =
            listeners.iter().flat_map(|(_, _, ports)| ports.to_vec()).collect();
        all_ports.sort_unstable();
        all_ports.dedup();
        let keeper = Keeper::new(cell.clone(), metrics.clone(), config.region.clone(), all_ports);
        let shared = Arc::new(Shared {
            server,
            workers,
            cell,
            metrics,
            tasks: tasks.clone(),
            main: tokio::runtime::Handle::current(),
            clock: rt::Clock::system(),
            born: tokio::time::Instant::now(),
            nudge: Arc::default(),
            connections: Default::default(),
            config,
        });
        let mut cores = Vec::new();
        let mut ends = Vec::new();
        // Dropping the senders ends the cores that were started.
        for number in 0..shared.config.cores {
            let core = listen::start_core(shared.clone(), number, tasks.clone());
            let (give, end) = core.map_err(StartError::Thread)?;
            cores.push(give);
            ends.push(end);
        }
        follow::follow(&shared, keeper).await;
        tasks.spawn_until_stop(autostop::watch(shared.clone()));
        let addrs = listeners.iter().map(|(_, addr, _)| *addr).collect();
        for (listener, _, ports) in listeners {
            let cores = cores.clone();
            tasks.spawn_until_stop(listen::accept(shared.clone(), listener, ports, cores));
        }
        tasks.spawn(async move {
            for end in ends {
                // An error means that the thread has ended, too.
                let _ = end.await;
            }
        });
        Ok(Self { addrs })
    }

    /// Where it listens, in the order of the settings.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

fn check(config: &EdgeConfig) -> Result<HeaderValue, StartError> {
    for (bad, what) in [
        (config.listeners.is_empty(), "there is no listener"),
        (config.domains.is_empty(), "there is no domain"),
        (config.cores == 0, "there is no core"),
        (HeaderValue::from_str(&config.region).is_err(), "the region is no header value"),
    ] {
        if bad {
            return Err(StartError::Config(what));
        }
    }
    let server = HeaderValue::from_str(&config.server);
    server.map_err(|_| StartError::Config("the server name is no header value"))
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
