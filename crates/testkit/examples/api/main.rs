//! Measures the API: `api DIR`, which prints JSON. For `bench/run --only api`.
//!
//! Control, one worker and the HTTP server are those of `updraft up`, with databases in `DIR`; VMs, links
//! and images are the fakes of this crate. So what is measured is the platform's own work and the
//! disk, not a hypervisor.

mod client;
mod measure;

use camino::Utf8PathBuf;
use control::http_api::{HttpApi, HttpConfig};
use control::{Config, Platform, Ports, orgs, tokens};
use host_api::{FixedHosts, Host, KnownHost};
use model::address::Ipv4Pool;
use model::id::HostId;
use prometheus_client::registry::Registry;
use rt::{Clock, Rng, Tasks};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store_sqlite::SqliteStore;
use testkit::World;
use worker::ports::Shape;
use worker::{HostConfig, NameServers, Worker};

/// The token of all calls.
const TOKEN: &str = "fm2_bench";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = std::env::args().nth(1).ok_or("usage: api DIR")?;
    let dir = Utf8PathBuf::from(dir);
    let tasks = Tasks::new();
    let (address, host) = start(&dir, &tasks).await?;
    let own = tasks.clone();
    // On the threads of the runtime, as the calls of the daemon are: the main thread is none.
    let measured = tasks.spawn(async move { measure::all(&dir, address, &host, &own).await });
    let measured = measured.await??;
    println!("{}", serde_json::to_string_pretty(&measured)?);
    tasks.stop();
    Ok(())
}

/// A platform of one host; the address of its API, and the host.
async fn start(dir: &Utf8PathBuf, tasks: &Tasks) -> Result<(SocketAddr, Arc<dyn Host>), Failure> {
    let (clock, mut registry) = (Clock::system(), Registry::default());
    let world = World::new(dir);
    world.hypervisor.add_template(Shape { vcpus: 1, memory_mib: 256 });
    let ports = world.ports(clock.clone(), Rng::from_os());
    let worker = Worker::start(host(&world)?, ports, tasks.clone(), &mut registry).await?;
    let host: Arc<dyn Host> = Arc::new(worker);
    let known = vec![KnownHost { id: HostId(1), host: host.clone() }];
    let store = SqliteStore::open(dir.join("global.db").as_std_path(), clock.clone(), tasks)?;
    store::records::migrate(&store).await?;
    let ports = Ports {
        store: Arc::new(store),
        hosts: Arc::new(FixedHosts::new(known)),
        clock,
        rng: Rng::from_os(),
        tasks: tasks.clone(),
        secrets_key: testkit::secrets_key(),
    };
    let platform = Platform::new(Config::default(), ports);
    platform.start_cache();
    orgs::ensure_default(&platform).await?;
    tokens::install_admin_token(&platform, HostId(0), TOKEN).await?;
    let api = HttpApi::new(platform, HttpConfig::default(), &mut registry);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let router = api.router();
    tasks.spawn_until_stop(async move {
        if let Err(err) = axum::serve(listener, router).await {
            eprintln!("the server ends: {err}");
        }
    });
    Ok((address, host))
}

fn host(world: &World) -> Result<HostConfig, Failure> {
    let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).ok_or("a pool of addresses")?;
    Ok(HostConfig {
        host: HostId(1),
        name: "bench".into(),
        region: "here".into(),
        region_codes: Vec::new(),
        region_aliases: Vec::new(),
        cpu_baseline: false,
        logs: worker::LogLimits::default(),
        data_dir: world.data_dir().into(),
        pool,
        mtu: 1420,
        memory_mib: 4 << 20,
        overcommit: 1.0,
        cpus: 2,
        nameservers: NameServers::fixed(Vec::new()),
        boot_deadline: Duration::from_secs(60),
        image_deadline: Duration::from_secs(60),
        templates: Vec::new(),
        keep_destroyed: Duration::from_secs(24 * 3600),
        discard_unrecorded: false,
    })
}
