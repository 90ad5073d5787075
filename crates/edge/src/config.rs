//! Settings of the edge.

use model::id::HostId;
use std::net::SocketAddr;
use std::time::Duration;

/// An address the edge listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where; port 0 takes a free one.
    pub addr: SocketAddr,
    /// The outside port of services it serves. `None` means: its own port
    /// number if the app has a service there, else 80, else 443.
    pub port_as: Option<u16>,
}

/// Settings of the edge. [`EdgeConfig::default`] holds what is documented.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Addresses to listen on (127.0.0.1:8080).
    pub listeners: Vec<Listener>,
    /// An app answers at `<app>.<domain>` for each of these (`localhost`).
    pub domains: Vec<String>,
    /// Region code of this edge (`local`).
    pub region: String,
    /// Number of the host that this edge runs on, for the label `host` of its
    /// metrics (0).
    pub host: HostId,
    /// Threads, each with its own runtime and upstream connections (one per core).
    /// 0 means none: the edge runs on the runtime that starts it.
    pub cores: usize,
    /// Client connections at a time (20 000). It is lowered to half of what the process's
    /// limit of open files leaves after a quarter of that limit, at least 256, for
    /// everything else; the other half is for connections to machines. At the limit the connection that has been idle for
    /// longest makes room.
    pub max_connections: usize,
    /// Client connections at a time from one IPv4 address or one IPv6 /64; `None`
    /// is an eighth of all. Addresses of the loopback have no such limit: proxies
    /// on the same machine use them.
    pub max_connections_per_source: Option<usize>,
    /// Connections to machines at a time (20 000), lowered in the same way. Beyond it a
    /// request waits for [`EdgeConfig::capacity_timeout`] and then fails with PL01.
    pub max_upstream: usize,
    /// Requests one app may have waiting (1 000).
    pub max_held: usize,
    /// How long a request waits for a machine to start and listen (60 s).
    pub wake_timeout: Duration,
    /// How long a request waits while all machines are at their hard limit (30 s).
    pub capacity_timeout: Duration,
    /// How long a request waits while all machines fail their readiness checks (30 s).
    pub unhealthy_timeout: Duration,
    /// How long connects to machines that seem up are retried (10 s).
    pub retry_for: Duration,
    /// How long one connect may take (5 s).
    pub connect_timeout: Duration,
    /// Time without a byte after which a request, response or upgraded
    /// connection is given up; a service port may set its own (60 s).
    pub idle_timeout: Duration,
    /// Time for a client to send its first bytes and a request's head, also between
    /// requests (60 s).
    pub header_timeout: Duration,
    /// Bytes of a request's head (64 KiB; at least 8 KiB).
    pub max_header_bytes: usize,
    /// Header fields of a request (128).
    pub max_headers: usize,
    /// How often the interval rule of autostop is applied (60 s).
    pub autostop_interval: Duration,
    /// How long requests in flight may take when the edge stops (10 s).
    pub drain: Duration,
    /// How often a held request logs to the app's log what it waits for (5 s).
    pub still_waiting_every: Duration,
    /// Where a blocked core is reported (nowhere).
    pub health: rt::Health,
    /// The `Server` header of answers.
    pub server: String,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            listeners: vec![Listener { addr: ([127, 0, 0, 1], 8080).into(), port_as: None }],
            domains: vec!["localhost".into()],
            region: "local".into(),
            host: HostId(0),
            cores,
            max_connections: 20_000,
            max_connections_per_source: None,
            max_upstream: 20_000,
            max_held: 1_000,
            wake_timeout: Duration::from_secs(60),
            capacity_timeout: Duration::from_secs(30),
            unhealthy_timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(60),
            max_header_bytes: 64 << 10,
            max_headers: 128,
            autostop_interval: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            still_waiting_every: Duration::from_secs(5),
            health: rt::Health::new(),
            server: concat!("Fly/", env!("CARGO_PKG_VERSION"), " (updraft)").into(),
        }
    }
}
