//! The services of this process, by its roles, joined through `host-api`.
//!
//! A process with the role `worker` has a host of its own and offers it to
//! others at `listen.host_api`; `control` and `edge` call that host and those
//! of `peers` behind the same traits, so nothing here depends on where a host
//! runs.

use super::adapters::{self, About};
use super::directory::AppDirectory;
use super::owners::StoreOwners;
use super::running::{Api, Host, Running};
use super::serve::tunnel;
use super::{failed, peers, report, serve, token};
use crate::error::DaemonError;
use crate::settings::{Role, Settings};
use axum::Router;
use control::audit::AuditLog;
use control::guest_api::GuestApi;
use control::http_api::{HttpApi, HttpConfig};
use control::oidc::{OidcConfig, OidcKeys};
use control::tokens::TokenSecret;
use control::{Config, Platform};
use edge::ports::{Directory, EdgeHost, NoDirectory};
use edge::{BoundEdge, Edge, EdgeConfig, Listener};
use host_api::{CallContext, Hosts, Status};
use prometheus_client::registry::Registry;
use rt::{Clock, Health, Rng, Tasks};
use seal::SealingKey;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store_sqlite::SqliteStore;
use tokio::net::TcpListener;
use worker::Worker;

/// How often unused image data is looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);

/// Starts everything that the roles name.
pub(super) async fn start(
    settings: &Settings,
    vars: &BTreeMap<String, String>,
    tasks: &Tasks,
    health: &Health,
) -> Result<Running, DaemonError> {
    let has = |role| settings.roles.contains(&role);
    let (clock, rng) = (Clock::system(), Rng::from_os());
    let mut registry = Registry::default();
    let secrets_key = secrets_key(settings, &rng)?;
    // Bound first: a port that is taken is found out before anything is made.
    let edge = match has(Role::Edge) {
        true => Some(bind_edge(settings, health).await?),
        false => None,
    };
    let api = match has(Role::Control) {
        true => Some(bind(settings.listen.api, "--api").await?),
        false => None,
    };
    let host_api = match settings.listen.host_api {
        Some(address) if has(Role::Worker) => Some(bind(address, "--host-api").await?),
        _ => None,
    };
    let tunnel = match settings.listen.tunnel {
        Some(address) if has(Role::Control) => Some(tunnel::bind(address).await),
        _ => None,
    };
    let metrics_listener = match settings.listen.metrics {
        Some(address) => Some(bind(address, "--metrics").await?),
        None => None,
    };
    let store = match has(Role::Control) {
        true => Some(open_store(settings, &clock, tasks).await?),
        false => None,
    };
    let (worker, host) = match has(Role::Worker) {
        true => {
            let owners = store.clone().map(StoreOwners);
            let (worker, about) =
                start_worker(settings, (&clock, secrets_key.clone()), owners, tasks, &mut registry)
                    .await?;
            let offered = offer(settings, &worker, host_api, tasks)?;
            let context = CallContext::control(Duration::from_secs(10));
            let info = Status::info(&worker, context).await;
            let machines = info.map_err(|err| failed("ask the host", &err))?.machines;
            let host = Host { worker: worker.clone(), about, machines, host_api: offered };
            (Some(worker), Some(host))
        }
        false => (None, None),
    };
    let hosts = peers::hosts(settings, worker.clone(), tasks)?;
    let edge = match edge {
        Some(edge) => start_edge(edge, &*hosts, store.as_ref(), tasks, &mut registry).await?,
        None => Vec::new(),
    };
    let control = match store {
        Some(store) => {
            let tasks = tasks.child();
            let hosts_of = hosts.clone();
            let given = control::Ports { store, hosts: hosts_of, clock, rng, tasks, secrets_key };
            let bound = tunnel::Tunnel::open(settings, tunnel, &given.clock)?;
            let config = control_config(settings, &edge, &bound, &given)?;
            let platform = Platform::new(config, given);
            platform.start_cache();
            let token = set_up(settings, &platform).await?;
            let api = HttpApi::new(platform.clone(), http_config(settings), &mut registry);
            GuestApi::new(&api).start(hosts);
            let tunnel = bound.serve(settings, &api)?;
            Some((api, token, tunnel))
        }
        None => None,
    };
    let front = control.as_ref().map(|(api, ..)| api.clone());
    let metrics = serve::Metrics::new(registry, worker, front, settings.metrics.clone());
    let metrics = Arc::new(metrics);
    if let Some((listener, address)) = metrics_listener {
        serve::serve(listener, Router::new(), metrics.clone(), health.clone(), &tasks.child());
        tracing::info!(%address, "serving /healthz and /metrics");
    }
    let api = api.zip(control).map(|((listener, address), (api, token, tunnel))| {
        let tasks = api.platform().tasks();
        serve::serve(listener, api.router(), metrics, health.clone(), tasks);
        let cli_config = report::write_cli_config(settings, vars, address, &token);
        Api { address, tunnel, cli_config }
    });
    Ok(Running { api, edge, host })
}

async fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr), DaemonError> {
    let refused = |err: &std::io::Error| {
        let hint = format!("Another program may have the port; give another with {flag}.");
        DaemonError::failed(format!("Cannot listen on {address}")).because_of(err).hint(hint)
    };
    let listener = TcpListener::bind(address).await.map_err(|err| refused(&err))?;
    let bound = listener.local_addr().map_err(|err| refused(&err))?;
    Ok((listener, bound))
}

/// The key that secrets are sealed with, made at the first start.
fn secrets_key(settings: &Settings, rng: &Rng) -> Result<Arc<SealingKey>, DaemonError> {
    let key = SealingKey::read_or_make(settings.secrets_key_file.as_std_path(), rng);
    key.map(Arc::new).map_err(|err| failed("use the key of the secrets", &err))
}

async fn open_store(
    settings: &Settings,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<Arc<dyn Store>, DaemonError> {
    let path = settings.data_dir.join("global.db");
    let store = SqliteStore::open(path.as_std_path(), clock.clone(), &tasks.child())
        .map_err(|err| failed("open the global store", &err))?;
    store::records::migrate(&store)
        .await
        .map_err(|err| failed("migrate the global store", &err))?;
    Ok(Arc::new(store))
}

async fn start_worker(
    settings: &Settings,
    (clock, secrets_key): (&Clock, Arc<SealingKey>),
    owners: Option<StoreOwners>,
    tasks: &Tasks,
    registry: &mut Registry,
) -> Result<(Worker, About), DaemonError> {
    let (mut ports, about) = adapters::make(settings, clock, secrets_key).await.map_err(|err| {
        failed("prepare the host", &err).hint("`updraft doctor` checks it and names each remedy.")
    })?;
    tracing::info!(accelerator = about.accelerator, reason = about.reason, "probed");
    ports.owners = owners.map(|owners| Arc::new(owners) as _);
    let config = adapters::host_config(settings);
    let worker = Worker::start(config, ports, tasks.child(), registry).await;
    let worker = worker.map_err(|err| failed("start the host", &err))?;
    collect_images(&worker, tasks);
    Ok((worker, about))
}

/// Offers the host to other processes, if there is an address for that.
fn offer(
    settings: &Settings,
    worker: &Worker,
    bound: Option<(TcpListener, SocketAddr)>,
    tasks: &Tasks,
) -> Result<Option<SocketAddr>, DaemonError> {
    let Some((listener, address)) = bound else { return Ok(None) };
    let identity = peers::identity(settings)?;
    let server = host_remote::Server::new(Arc::new(worker.clone()), tasks.child());
    server
        .listen(listener, &identity.authority, &identity.own)
        .map_err(|err| failed("offer this host to others", &err))?;
    Ok(Some(address))
}

async fn bind_edge(settings: &Settings, health: &Health) -> Result<BoundEdge, DaemonError> {
    let config = EdgeConfig { health: health.clone(), ..edge_config(settings) };
    Edge::bind(config).await.map_err(|err| {
        let hint = "Another program may have the port; give another with --edge.";
        failed("start the edge", &err).hint(hint)
    })
}

async fn start_edge(
    edge: BoundEdge,
    hosts: &dyn Hosts,
    store: Option<&Arc<dyn Store>>,
    tasks: &Tasks,
    registry: &mut Registry,
) -> Result<Vec<SocketAddr>, DaemonError> {
    let tasks = tasks.child();
    let directory: Arc<dyn Directory> = match store {
        Some(store) => Arc::new(AppDirectory::follow(store.clone(), &tasks)),
        None => Arc::new(NoDirectory),
    };
    let hosts = EdgeHost::watch(hosts, &tasks);
    let edge = edge.start(hosts, directory, tasks, registry).await;
    Ok(edge.map_err(|err| failed("start the edge", &err))?.local_addrs())
}

/// What every platform has from its first start; the admin token.
async fn set_up(settings: &Settings, platform: &Platform) -> Result<String, DaemonError> {
    let token = token::read_or_make("admin token", &settings.admin.token_file, platform.rng())?;
    control::orgs::ensure_default(platform)
        .await
        .map_err(|err| failed("set up the platform", &err))?;
    control::tokens::install_admin_token(platform, settings.host.number, &token)
        .await
        .map_err(|err| failed("install the admin token", &err))?;
    control::reconcile::start(platform);
    Ok(token)
}

fn http_config(settings: &Settings) -> HttpConfig {
    HttpConfig { rate_limits: settings.api.rate_limits, ..HttpConfig::default() }
}

fn control_config(
    settings: &Settings,
    edge: &[SocketAddr],
    tunnel: &tunnel::Tunnel,
    given: &control::Ports,
) -> Result<Config, DaemonError> {
    let in_data = |name: &str| settings.data_dir.join(name);
    let secret = token::read_or_make("secret of macaroons", &in_data("token-secret"), &given.rng)?;
    let keys = OidcKeys::open(in_data("oidc-keys").as_std_path())
        .map_err(|err| failed("use the keys of OpenID Connect", &err))?;
    let audit =
        AuditLog::open(in_data("audit").as_std_path(), settings.audit, &given.clock, &given.tasks);
    let audit = audit.map_err(|err| failed("open the audit log", &err))?;
    let issuer = settings.oidc.issuer.clone();
    let issuer = issuer.unwrap_or_else(|| format!("http://{}", settings.listen.api));
    let audience = settings.oidc.audience.clone().unwrap_or_default();
    Ok(Config {
        domain: settings.edge.domains.first().cloned().unwrap_or_else(|| "localhost".into()),
        edge_port: edge.first().map(SocketAddr::port),
        token_secret: TokenSecret::new(secret.as_bytes()),
        oidc: OidcConfig { issuer, audience, keys: Some(keys) },
        audit,
        gateway: tunnel.gateway(settings, &given.rng)?,
        host_names: tunnel.host_names(settings),
    })
}

fn edge_config(settings: &Settings) -> EdgeConfig {
    let listener = |&addr| Listener { addr, port_as: None };
    EdgeConfig {
        listeners: settings.listen.edge.iter().map(listener).collect(),
        domains: settings.edge.domains.clone(),
        region: settings.host.region.to_string(),
        host: settings.host.number,
        autostop_interval: settings.edge.autostop_interval,
        wake_timeout: settings.edge.wake_timeout,
        unhealthy_timeout: settings.edge.unhealthy_timeout,
        ..EdgeConfig::default()
    }
}

/// Removes unused image data at an interval.
fn collect_images(worker: &Worker, tasks: &Tasks) {
    let worker = worker.clone();
    tasks.spawn_until_stop(async move {
        let mut every = tokio::time::interval(COLLECT_EVERY);
        loop {
            every.tick().await;
            match worker.collect_images().await {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "removed unused image data"),
                Err(err) => tracing::warn!(error = %err, "cannot collect image data"),
            }
        }
    });
}
