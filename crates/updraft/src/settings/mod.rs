//! Settings of the daemon: flags, environment and file, parsed once into one
//! type that cannot be wrong; all complaints at once.
//!
//! `keys` is the table of all settings, `layers` finds the text of each, `parse`
//! turns a text into a value.

mod flyctl;
mod keys;
mod layers;
mod parse;
#[cfg(test)]
mod settings_tests;

pub(crate) use flyctl::FlyctlSettings;
pub(crate) use layers::SettingArgs;

use crate::error::DaemonError;
use camino::{Utf8Path, Utf8PathBuf};
use control::audit::AuditLimits;
use layers::Layers;
use model::address::Ipv4Pool;
use model::id::{HostId, RegionCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How guests are to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantedAccelerator {
    /// Find out by booting a guest.
    Auto,
    /// This one or none.
    Only(vmm_qemu::Accelerator),
}

pub(crate) use host_remote::Role;

/// Another host of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its `host.number`.
    pub(crate) number: HostId,
    /// Its `host.name`.
    pub(crate) name: String,
    /// Its `listen.host_api`.
    pub(crate) address: SocketAddr,
}

/// Who may read `/metrics`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum MetricsAccess {
    /// Who has the admin token.
    AdminToken,
    /// Who has this token.
    Token(String),
    /// Every client that reaches the API's address.
    Open,
}

impl std::fmt::Debug for MetricsAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the token.
        f.write_str(match self {
            Self::AdminToken => "AdminToken",
            Self::Token(_) => "Token",
            Self::Open => "Open",
        })
    }
}

/// `[host]`: identity of this host.
#[derive(Clone, Debug)]
pub(crate) struct HostSettings {
    pub(crate) name: String,
    pub(crate) number: HostId,
    pub(crate) region: RegionCode,
    /// Further codes of the region; a machine keeps the one that it was asked for.
    pub(crate) region_codes: Vec<RegionCode>,
    /// Names that stand for `region`.
    pub(crate) region_aliases: Vec<RegionCode>,
    /// Machines that a new `host.db` does not name are removed.
    pub(crate) discard_unrecorded: bool,
}

/// `[listen]`: addresses of this process.
#[derive(Clone, Debug)]
pub(crate) struct ListenSettings {
    pub(crate) api: SocketAddr,
    /// The API may be reached from other machines.
    pub(crate) allow_remote_api: bool,
    pub(crate) edge: Vec<SocketAddr>,
    /// For the other hosts of the platform; needs `[tls]`.
    pub(crate) host_api: Option<SocketAddr>,
    /// For `/healthz` and `/metrics`, whatever the roles are.
    pub(crate) metrics: Option<SocketAddr>,
    /// For tunnels of flyctl, over TLS.
    pub(crate) tunnel: Option<SocketAddr>,
}

/// `[edge]`: how requests find machines.
#[derive(Clone, Debug)]
pub(crate) struct EdgeSettings {
    pub(crate) domains: Vec<String>,
    pub(crate) autostop_interval: Duration,
    pub(crate) wake_timeout: Duration,
    pub(crate) unhealthy_timeout: Duration,
}

/// `[tls]`: the identity of this host towards the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(crate) ca: Utf8PathBuf,
    pub(crate) cert: Utf8PathBuf,
    pub(crate) key: Utf8PathBuf,
}

/// `[admin]`: the first token.
#[derive(Clone, Debug)]
pub(crate) struct AdminSettings {
    pub(crate) token_file: Utf8PathBuf,
    pub(crate) write_cli_config: bool,
}

/// `[oidc]`: the issuer of tokens for machines.
#[derive(Clone, Debug)]
pub(crate) struct OidcSettings {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

/// `[memory]`: what of the host's memory machines may have.
#[derive(Clone, Debug)]
pub(crate) struct MemorySettings {
    pub(crate) machines_mib: u64,
    pub(crate) overcommit: f64,
}

/// `[disk]`: what of the host's disk machines may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskSettings {
    /// How many times the free space may be promised.
    pub(crate) overcommit: u32,
}

/// `[api]`: the public API.
#[derive(Clone, Debug)]
pub(crate) struct ApiSettings {
    /// The rate limits of Fly's Machines API hold.
    pub(crate) rate_limits: bool,
}

/// `[machines]`: what is kept of machines.
#[derive(Clone, Debug)]
pub(crate) struct MachineSettings {
    /// How long a destroyed machine can still be read.
    pub(crate) keep_destroyed: Duration,
    /// Machines with shared vCPUs are held to their baseline.
    pub(crate) cpu_baseline: bool,
}

/// `[vm]`: how VMs are run.
#[derive(Clone, Debug)]
pub(crate) struct VmSettings {
    pub(crate) templates: Vec<worker::ports::Shape>,
    pub(crate) accelerator: WantedAccelerator,
    pub(crate) probe_deadline: Duration,
    pub(crate) qemu: Option<Utf8PathBuf>,
    pub(crate) boot_deadline: Duration,
}

/// `[images]`: where images come from and how they are kept.
#[derive(Clone, Debug)]
pub(crate) struct ImageSettings {
    pub(crate) pull_deadline: Duration,
    pub(crate) compression: oci::Compression,
    pub(crate) registry_auth_file: Option<Utf8PathBuf>,
    pub(crate) allow_loopback_registry: bool,
    pub(crate) keep_pulled: Duration,
}

/// `[network]` and `[egress]`: addresses of machines, and what they reach.
#[derive(Clone, Debug)]
pub(crate) struct NetworkSettings {
    pub(crate) ipv4_pool: Ipv4Pool,
    pub(crate) mtu: u16,
    pub(crate) masquerade: bool,
    pub(crate) nameservers: Vec<String>,
    pub(crate) block_egress: Vec<network_linux::Cidr>,
    pub(crate) allow_egress: Vec<network_linux::Cidr>,
}

/// `[logs]`: the logs of apps and machines.
#[derive(Clone, Debug)]
pub(crate) struct LogsSettings {
    pub(crate) limits: worker::LogLimits,
    /// Receivers that lines are exported to.
    pub(crate) sinks: Vec<log_sinks::SinkSettings>,
}

/// `[log]`: the daemon's own log.
#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    pub(crate) filter: String,
    pub(crate) json: bool,
}

/// All settings of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: Utf8PathBuf,
    /// Sorted, without repetition, at least one.
    pub(crate) roles: Vec<Role>,
    pub(crate) host: HostSettings,
    pub(crate) listen: ListenSettings,
    pub(crate) flyctl: FlyctlSettings,
    pub(crate) edge: EdgeSettings,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) admin: AdminSettings,
    pub(crate) oidc: OidcSettings,
    pub(crate) audit: AuditLimits,
    /// The key that seals secrets.
    pub(crate) secrets_key_file: Utf8PathBuf,
    pub(crate) metrics: MetricsAccess,
    pub(crate) memory: MemorySettings,
    pub(crate) disk: DiskSettings,
    pub(crate) api: ApiSettings,
    pub(crate) machines: MachineSettings,
    pub(crate) logs: LogsSettings,
    pub(crate) vm: VmSettings,
    pub(crate) images: ImageSettings,
    pub(crate) network: NetworkSettings,
    pub(crate) log: LogSettings,
}

impl Settings {
    /// From the flags, the environment and the file that either names.
    ///
    /// # Errors
    /// All complaints at once, as one usage error.
    pub(crate) fn load(
        args: &SettingArgs,
        vars: &BTreeMap<String, String>,
    ) -> Result<Self, DaemonError> {
        let layers = Layers::gather(args, vars).map_err(|problems| complain(&problems))?;
        Self::parse(&layers).map_err(|problems| complain(&problems))
    }

    /// The data directory under its one true path: names of what a daemon makes
    /// are derived from it, however it is written. It has to exist.
    pub(crate) fn resolve_data_dir(&mut self) {
        if let Ok(path) = self.data_dir.canonicalize_utf8() {
            self.data_dir = path;
        }
    }

    /// The file in which a running daemon leaves the address of its API.
    pub(crate) fn api_address_file(&self) -> Utf8PathBuf {
        self.data_dir.join("api-address")
    }

    fn parse(from: &Layers) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let p = &mut problems;
        let data_dir: Utf8PathBuf = from.get("data_dir").into();
        if !data_dir.is_absolute() {
            p.push(from.complaint("data_dir", "it has to be an absolute path"));
        }
        let settings = Self {
            roles: roles(from, p),
            host: host(from, p),
            listen: listen(from, p),
            flyctl: flyctl::parse(from, p),
            edge: edge(from, p),
            tls: tls(from, p),
            peers: from.parse_list("peers", p, parse::peer),
            admin: AdminSettings {
                token_file: from
                    .path("admin.token_file")
                    .unwrap_or_else(|| data_dir.join("admin-token")),
                write_cli_config: from.parse("admin.write_cli_config", p, parse::flag),
            },
            oidc: OidcSettings {
                issuer: url(from, "oidc.issuer", p),
                audience: url(from, "oidc.audience", p),
            },
            audit: AuditLimits {
                bytes: from.parse("audit.max_size_mib", p, parse::audit_mib) << 20,
                age_ms: u64::try_from(from.parse("audit.max_age", p, parse::retention).as_millis())
                    .unwrap_or(u64::MAX),
            },
            secrets_key_file: from
                .path("secrets.key_file")
                .unwrap_or_else(|| data_dir.join("secrets.key")),
            metrics: metrics(from, p),
            memory: memory(from, p),
            disk: DiskSettings {
                overcommit: from.parse("disk.overcommit", p, parse::disk_overcommit),
            },
            api: ApiSettings { rate_limits: from.parse("api.rate_limits", p, parse::flag) },
            machines: machines(from, p),
            logs: logs(from, p),
            vm: vm(from, p),
            images: images(from, p),
            network: network(from, p),
            log: LogSettings {
                filter: from.get("log.filter").into(),
                json: from.parse("log.format", p, parse::log_format),
            },
            data_dir,
        };
        if settings.tls.is_none() {
            let why = "it needs tls.ca, tls.cert and tls.key: hosts only talk over mutual TLS";
            let needs = [
                ("listen.host_api", settings.listen.host_api.is_some()),
                ("peers", !settings.peers.is_empty()),
            ];
            let needs = needs.into_iter().filter(|(_, given)| *given);
            problems.extend(needs.map(|(key, _)| from.complaint(key, why)));
        }
        if settings.listen.metrics.is_some()
            && settings.metrics == MetricsAccess::AdminToken
            && !settings.roles.contains(&Role::Control)
        {
            let why = "only a process with the role control has the admin token: set \
                       metrics.token to a token of its own, or to none";
            problems.push(from.complaint("listen.metrics", why));
        }
        problems.extend(flyctl::problem(from, &settings));
        problems.extend(peer_problems(&settings).map(|why| from.complaint("peers", &why)));
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

/// Numbers that two hosts would share.
fn peer_problems(settings: &Settings) -> impl Iterator<Item = String> + '_ {
    let peers = &settings.peers;
    peers.iter().enumerate().filter_map(|(at, Peer { number, name, .. })| {
        if let Some(other) = peers[..at].iter().find(|other| other.number == *number) {
            return Some(format!("{} and {name} both have the number {number}", other.name));
        }
        let own = *number == settings.host.number;
        own.then(|| format!("{name} has the number of this host, {number} (host.number)"))
    })
}

fn roles(from: &Layers, p: &mut Vec<String>) -> Vec<Role> {
    let before = p.len();
    let mut roles = from.parse_list("roles", p, parse::role);
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() && p.len() == before {
        p.push(from.complaint("roles", "it has to name control, worker or edge"));
    }
    roles
}

fn host(from: &Layers, p: &mut Vec<String>) -> HostSettings {
    HostSettings {
        name: from.parse("host.name", p, parse::host_name),
        number: from.parse("host.number", p, |text| parse::number(text).map(HostId)),
        region: from.parse("host.region", p, parse::region),
        region_codes: from.parse_list("host.region_codes", p, parse::region),
        region_aliases: from.parse_list("host.region_aliases", p, parse::region),
        discard_unrecorded: from.parse("host.discard_unrecorded", p, parse::flag),
    }
}

fn listen(from: &Layers, p: &mut Vec<String>) -> ListenSettings {
    let api: SocketAddr = from.parse("listen.api", p, parse::api_address);
    let allow_remote = from.parse("listen.allow_remote_api", p, parse::flag);
    if !api.ip().is_loopback() && !allow_remote {
        let why = "it is not a loopback address, and the API does not serve TLS yet; put a TLS \
                   proxy in front of it, or give --allow-remote-api=true if the network between \
                   is trusted";
        p.push(from.complaint("listen.api", why));
    }
    ListenSettings {
        api,
        edge: from.parse_list("listen.edge", p, parse::address),
        host_api: from.parse("listen.host_api", p, parse::optional_address),
        metrics: from.parse("listen.metrics", p, parse::optional_address),
        tunnel: from.parse("listen.tunnel", p, parse::tunnel),
        allow_remote_api: allow_remote,
    }
}

fn edge(from: &Layers, p: &mut Vec<String>) -> EdgeSettings {
    EdgeSettings {
        domains: from.parse_list("edge.domains", p, parse::domain),
        autostop_interval: from.parse("edge.autostop_interval", p, parse::duration),
        wake_timeout: from.parse("edge.wake_timeout", p, parse::duration),
        unhealthy_timeout: from.parse("edge.unhealthy_timeout", p, parse::duration),
    }
}

/// All three files, or none.
fn tls(from: &Layers, p: &mut Vec<String>) -> Option<TlsSettings> {
    let keys = ["tls.ca", "tls.cert", "tls.key"];
    match keys.map(|key| from.path(key)) {
        [Some(ca), Some(cert), Some(key)] => Some(TlsSettings { ca, cert, key }),
        [None, None, None] => None,
        given => {
            let missing = keys.iter().zip(&given).filter(|(_, path)| path.is_none());
            let why = "tls.ca, tls.cert and tls.key go together";
            p.extend(missing.map(|(key, _)| format!("{key} is missing: {why}")));
            None
        }
    }
}

/// A URL without a slash at its end, if there is one.
fn url(from: &Layers, key: &'static str, p: &mut Vec<String>) -> Option<String> {
    let text = from.get(key);
    if text.is_empty() {
        return None;
    }
    let is_one = text.starts_with("https://") || text.starts_with("http://");
    if !is_one || text.contains(char::is_whitespace) {
        p.push(from.complaint(key, "it has to be a URL that begins with https:// or http://"));
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn metrics(from: &Layers, p: &mut Vec<String>) -> MetricsAccess {
    let parsed = parse::metrics_access(from.get("metrics.token"));
    parsed.unwrap_or_else(|why| {
        // Without the text, which may be a secret.
        p.push(format!("metrics.token: {why}"));
        MetricsAccess::AdminToken
    })
}

fn memory(from: &Layers, p: &mut Vec<String>) -> MemorySettings {
    let reserve = from.parse("memory.host_reserve_mib", p, parse::number);
    let machines: Option<u64> = from.parse("memory.machines_mib", p, parse::memory);
    MemorySettings {
        machines_mib: machines.unwrap_or_else(|| parse::memory_for_machines(reserve)),
        overcommit: from.parse("memory.overcommit", p, parse::overcommit),
    }
}

fn machines(from: &Layers, p: &mut Vec<String>) -> MachineSettings {
    MachineSettings {
        keep_destroyed: from.parse("machines.keep_destroyed", p, parse::duration),
        cpu_baseline: from.parse("machines.cpu_baseline", p, parse::flag),
    }
}

fn logs(from: &Layers, p: &mut Vec<String>) -> LogsSettings {
    let limits = worker::LogLimits {
        log_bytes: from.parse("logs.max_size_mib", p, parse::logs_mib) << 20,
        total_bytes: from.parse("logs.max_total_mib", p, parse::logs_mib) << 20,
        age: from.parse("logs.max_age", p, parse::retention),
    };
    let sinks = from.path("logs.sinks_file").map(|path| log_sinks(&path));
    let sinks = sinks.unwrap_or(Ok(Vec::new())).unwrap_or_else(|problems| {
        p.extend(problems.iter().map(|why| from.complaint("logs.sinks_file", why)));
        Vec::new()
    });
    LogsSettings { limits, sinks }
}

fn log_sinks(path: &Utf8Path) -> Result<Vec<log_sinks::SinkSettings>, Vec<String>> {
    let text = std::fs::read_to_string(path);
    log_sinks::parse(&text.map_err(|err| vec![format!("it cannot be read: {err}")])?)
}

fn vm(from: &Layers, p: &mut Vec<String>) -> VmSettings {
    VmSettings {
        templates: from.parse_list("vm.templates", p, parse::shape),
        accelerator: from.parse("vm.accelerator", p, parse::accelerator),
        probe_deadline: from.parse("vm.probe_deadline", p, parse::duration),
        qemu: from.path("vm.qemu"),
        boot_deadline: from.parse("vm.boot_deadline", p, parse::duration),
    }
}

fn images(from: &Layers, p: &mut Vec<String>) -> ImageSettings {
    ImageSettings {
        pull_deadline: from.parse("images.pull_deadline", p, parse::duration),
        compression: from.parse("images.compression", p, parse::compression),
        registry_auth_file: from.path("images.registry_auth_file"),
        allow_loopback_registry: from.parse("images.allow_loopback_registry", p, parse::flag),
        keep_pulled: from.parse("images.keep_pulled", p, parse::duration),
    }
}

fn network(from: &Layers, p: &mut Vec<String>) -> NetworkSettings {
    let given = from.parse("network.ipv4_pool", p, parse::optional_pool);
    // A number that is none has been complained of already.
    let host = parse::number(from.get("host.number")).unwrap_or_default();
    let pool = given.or_else(|| parse::pool_of_host(host));
    let ipv4_pool = pool.unwrap_or_else(|| {
        let why = "hosts above 1024 have no addresses by default: give network.ipv4_pool";
        p.push(from.complaint("host.number", why));
        parse::FIRST_POOL
    });
    NetworkSettings {
        ipv4_pool,
        mtu: from.parse("network.mtu", p, parse::mtu),
        masquerade: from.parse("network.masquerade", p, parse::flag),
        nameservers: from.parse_list("network.nameservers", p, parse::nameserver),
        block_egress: from.parse_list("egress.block", p, parse::cidr),
        allow_egress: from.parse_list("egress.allow", p, parse::cidr),
    }
}

fn complain(problems: &[String]) -> DaemonError {
    DaemonError::usage("Cannot start with these settings")
        .because(problems.join("\n           "))
        .hint("`updraft up --help` lists all settings.")
}
