//! `updraft up`: all services in one process.

mod client_io;
mod data_dir;
mod join;
mod local_host;
pub(crate) mod lock;
mod places;
mod report;
mod serve;
mod token;
mod world;

pub(crate) use world::{network_config as world_network_config, qemu_config as world_qemu_config};

use crate::settings::{SettingArgs, Settings};
use cli::CliError;
use control::guest_api::GuestApi;
use control::http_api::{HttpApi, HttpConfig};
use control::{Config, Platform, World};
use edge::{Edge, EdgeConfig, Listener};
use host_api::{FixedHosts, KnownHost};
use join::{LateGuestApi, LocalWorkers};
use local_host::LocalHost;
use lock::{DataDirLock, LockError};
use prometheus_client::registry::Registry;
use rt::{Clock, Tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store_sqlite::SqliteStore;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use worker::Worker;

/// Requests that are under way when the daemon is told to stop have this long.
const GRACE: Duration = Duration::from_secs(15);
/// How often image data that nobody needs is looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);

/// Starts everything, says so, and runs until told to stop. The VMs stay.
pub(crate) async fn up(
    args: &SettingArgs,
    vars: &BTreeMap<String, String>,
) -> Result<u8, CliError> {
    let mut settings = Settings::load(args, vars)?;
    start_logging(&settings)?;
    // Data of machines and tokens are nobody else's business.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    data_dir::prepare(&settings.data_dir)?;
    settings.resolve_data_dir();
    let _lock = DataDirLock::take(&settings.data_dir).map_err(|err| in_use(&settings, &err))?;
    let tasks = Tasks::new();
    let mut stop = StopSignals::new()?;
    let running = tokio::select! {
        started = start(&settings, vars, &tasks) => started,
        () = stop.next() => return Ok(0),
    };
    let running = match running {
        Ok(running) => running,
        Err(err) => {
            tasks.shutdown(GRACE).await;
            return Err(err);
        }
    };
    report::show(&report::ready(&settings, &running));
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(api = %running.api, "ready");
    stop.next().await;
    tracing::info!("stopping; the machines go on running");
    notify(&[sd_notify::NotifyState::Stopping]);
    if !tasks.shutdown(GRACE).await {
        tracing::warn!("some work did not end within {GRACE:?} and is cut off");
    }
    Ok(0)
}

/// What runs, for the report.
struct Running {
    api: std::net::SocketAddr,
    edge: Vec<std::net::SocketAddr>,
    accelerator: String,
    reason: String,
    hypervisor: String,
    kernel: String,
    weaknesses: Vec<String>,
    machines: BTreeMap<String, u64>,
    cli_config: Option<String>,
}

async fn start(
    settings: &Settings,
    vars: &BTreeMap<String, String>,
    tasks: &Tasks,
) -> Result<Running, CliError> {
    let clock = Clock::system();
    // Bound first: a port that is taken is found out before anything is made.
    let listener = TcpListener::bind(settings.api).await.map_err(|err| {
        let hint = "Another program may have the port; give another with --api.";
        CliError::failed(format!("Cannot listen on {}", settings.api)).because_of(&err).hint(hint)
    })?;
    let api = listener.local_addr().map_err(|err| failed("listen", &err))?;
    let guest_api = Arc::new(LateGuestApi::default());
    let world = world::make(settings, &clock, guest_api.clone()).await.map_err(|err| {
        failed("prepare the host", &err).hint("`updraft doctor` checks it and names each remedy.")
    })?;
    let token = token::read_or_make(&settings.admin_token_file, &world.ports.rng)?;
    let mut registry = Registry::default();
    let (rng, about) = (world.ports.rng.clone(), world.ports.hypervisor.about());
    let worker =
        Worker::start(world::host_config(settings), world.ports, tasks.child(), &mut registry)
            .await
            .map_err(|err| failed("start the host", &err))?;
    let edge = Edge::start(
        edge_config(settings),
        Arc::new(LocalWorkers(worker.clone())),
        tasks.child(),
        &mut registry,
    )
    .await
    .map_err(|err| failed("start the edge", &err).hint("Give another address with --edge."))?;
    let path = settings.data_dir.join("global.db");
    let store = SqliteStore::open(path.as_std_path(), clock.clone(), &tasks.child())
        .map_err(|err| failed("open the global store", &err))?;
    let store: Arc<dyn Store> = Arc::new(store);
    store::records::migrate(&*store)
        .await
        .map_err(|err| failed("migrate the global store", &err))?;
    let host =
        LocalHost { worker: worker.clone(), store: store.clone(), region_aliases: Vec::new() };
    let known = KnownHost { id: settings.host_id, host: Arc::new(host) };
    let hosts = Arc::new(FixedHosts::new(vec![known]));
    let given = World { store, hosts, clock, rng, tasks: tasks.child() };
    let platform = Platform::new(control_config(settings, &edge), given);
    control::orgs::ensure_default(&platform)
        .await
        .map_err(|err| failed("set up the platform", &err))?;
    control::tokens::install_admin_token(&platform, settings.host_id, &token)
        .await
        .map_err(|err| failed("install the admin token", &err))?;
    control::reconcile::start(&platform);
    let control = HttpApi::new(platform, HttpConfig::default(), &mut registry);
    guest_api.open(GuestApi::new(&control));
    collect_images(&worker, tasks);
    serve::serve(listener, control.router(), registry, tasks);
    let cli_config = report::write_cli_config(settings, vars, api, &token);
    Ok(Running {
        api,
        edge: edge.local_addrs().to_vec(),
        accelerator: about.accelerator,
        reason: world.probed.reason,
        hypervisor: about.version,
        kernel: world.kernel.release.clone(),
        weaknesses: world.weaknesses,
        machines: worker.info().machines,
        cli_config,
    })
}

fn control_config(settings: &Settings, edge: &Edge) -> Config {
    Config {
        domain: settings.domains.first().cloned().unwrap_or_else(|| "localhost".into()),
        edge_port: edge.local_addrs().first().map(std::net::SocketAddr::port),
    }
}

fn edge_config(settings: &Settings) -> EdgeConfig {
    let listener = |&addr| Listener { addr, port_as: None };
    EdgeConfig {
        listeners: settings.edge.iter().map(listener).collect(),
        domains: settings.domains.clone(),
        region: settings.region.to_string(),
        autostop_interval: settings.autostop_interval,
        wake_timeout: settings.wake_timeout,
        ..EdgeConfig::default()
    }
}

/// Removes image data that nobody needs, now and then.
fn collect_images(worker: &Worker, tasks: &Tasks) {
    let worker = worker.clone();
    tasks.spawn_until_stop(async move {
        let mut every = tokio::time::interval(COLLECT_EVERY);
        loop {
            every.tick().await;
            match worker.collect_images().await {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "removed image data that nobody needed"),
                Err(err) => tracing::warn!(error = %err, "cannot collect image data"),
            }
        }
    });
}

/// SIGTERM and SIGINT; only the first counts.
struct StopSignals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl StopSignals {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|err| failed("listen for signals", &err));
        Ok(Self(listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn start_logging(settings: &Settings) -> Result<(), CliError> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_new(&settings.log).map_err(|err| {
        CliError::usage("Cannot use this log filter").because_of(&err).hint("Try --log=info.")
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_json {
        true => builder.json().init(),
        false => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    Ok(())
}

fn in_use(settings: &Settings, err: &LockError) -> CliError {
    let hint = "Stop it with `updraft down`, or give another directory with --data-dir.";
    CliError::failed(format!("Cannot use {}", settings.data_dir)).because_of(err).hint(hint)
}

fn failed(what: &str, err: &(dyn std::error::Error + 'static)) -> CliError {
    CliError::failed(format!("Cannot {what}")).because_of(err)
}

/// Tells systemd; without it nothing happens.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(false, states) {
        tracing::debug!(error = %err, "cannot notify the service manager");
    }
}
