//! The table of all settings: one row makes the key of the file, the flag, the
//! variable and the line in the help.
//!
//! Keys are nested (`listen.api` is `api` in the section `[listen]`). Names of
//! earlier versions (flat keys, other flags and variables) still work.

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Key in the file, with its section: `listen.api`.
    pub(crate) key: &'static str,
    /// Flag `--name` and variable `UPDRAFT_NAME`; as `name` also the key of files
    /// that were written before there were sections.
    pub(crate) name: &'static str,
    /// Shown in the help.
    pub(crate) value: &'static str,
    /// Empty means: found out at start, or off.
    pub(crate) default: &'static str,
    /// What it is for.
    pub(crate) help: &'static str,
}

/// Earlier names, and the names that replaced them.
pub(super) const RENAMED: &[(&str, &str)] = &[("host-id", "host-number")];

/// Sections of the file; a key of the same name in an older file is no section.
pub(super) fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.split_once('.').is_some_and(|(s, _)| s == name))
}

impl Setting {
    /// Its environment variable.
    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Its earlier names.
    pub(super) fn earlier(&self) -> impl Iterator<Item = &'static str> {
        RENAMED.iter().filter(|(_, new)| *new == self.name).map(|(old, _)| *old)
    }
}

/// The environment variable for a flag's name.
pub(super) fn variable(name: &str) -> String {
    format!("UPDRAFT_{}", name.to_ascii_uppercase().replace('-', "_"))
}

const fn row(
    key: &'static str,
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, name, value, default, help }
}

/// All settings of the daemon.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    row("data_dir", "data-dir", "DIR", "/var/lib/updraft", "Where all state lives"),
    row("roles", "roles", "ROLE,…", "control,worker,edge", "What this process is: control, worker, edge"),

    row("host.name", "host-name", "NAME", "", "Name of this host [default: the machine's host name]"),
    row("host.number", "host-number", "NUMBER", "0", "Number of this host, 0 to 65535; no two hosts of a platform share one"),
    row("host.region", "region", "CODE", "local", "Region code of this host"),
    row("host.region_codes", "region-code", "CODE,…", "", "Further codes of this host's region; a machine keeps the one that it was asked for"),
    row("host.region_aliases", "region-alias", "CODE,…", "", "Names that stand for host.region when a machine is placed"),
    row("host.discard_unrecorded", "discard-unrecorded", "BOOL", "false", "Remove the VMs and files of machines when `host.db` is new and names none of them; otherwise the daemon does not start with them"),

    row("listen.api", "api", "ADDR", "127.0.0.1:4280", "Where the API listens: ADDRESS:PORT or http://ADDRESS:PORT"),
    row("listen.allow_remote_api", "allow-remote-api", "BOOL", "false", "Let the API listen on an address that is not loopback, without TLS"),
    row("listen.edge", "edge", "ADDR,…", "127.0.0.1:8080", "Where the edge listens"),
    row("listen.metrics", "metrics", "ADDR", "", "Where `/healthz` and `/metrics` are served beside the API, or without it [default: nowhere]"),
    row("listen.tunnel", "tunnel", "ADDR", "127.0.0.43:443", "Where tunnels of flyctl are accepted, over TLS: ADDRESS or ADDRESS:PORT; clients dial port 443 and no other. `off`: nowhere; see docs/flyctl.md"),
    row("listen.host_api", "host-api", "ADDR", "", "Where other hosts of the platform reach this one, over mutual TLS [default: nowhere]"),

    row("flyctl.tunnel_address", "tunnel-address", "IP", "", "Address that clients dial for a tunnel, if it is not that of listen.tunnel, such as one that is forwarded to it"),
    row("flyctl.host_names", "fly-host-names", "BOOL", "false", "Serve the API at listen.tunnel under api.fly.io and api.machines.dev as well, with a certificate authority of its own; see docs/flyctl.md"),

    row("edge.domains", "domain", "NAME,…", "localhost", "An app answers at <app>.<domain> for each of these"),
    row("edge.autostop_interval", "autostop-interval", "TIME", "60s", "How often the autostop rule is applied"),
    row("edge.wake_timeout", "wake-timeout", "TIME", "60s", "How long a request waits for a machine to start and listen"),
    row("edge.unhealthy_timeout", "unhealthy-timeout", "TIME", "30s", "How long a request waits while all machines fail their health checks"),

    row("tls.ca", "tls-ca", "FILE", "", "Certificate authority of the platform's hosts, PEM"),
    row("tls.cert", "tls-cert", "FILE", "", "Certificate of this host, PEM"),
    row("tls.key", "tls-key", "FILE", "", "Private key of this host, PEM"),
    row("peers", "peer", "NUMBER:NAME=ADDR,…", "", "Other hosts of the platform: number, name and address of their host API"),

    row("admin.token_file", "admin-token-file", "FILE", "", "File that holds the admin token; made if absent [default: <data-dir>/admin-token]"),
    row("admin.write_cli_config", "write-cli-config", "BOOL", "true", "Write ~/.updraft/config.toml for the command line, if there is none"),
    row("api.rate_limits", "rate-limits", "BOOL", "false", "Refuse requests beyond the rate limits of Fly's Machines API (429)"),
    row("oidc.issuer", "oidc-issuer", "URL", "", "Address at which verifiers of machines' OpenID Connect tokens reach the API, without the organization [default: http:// and listen.api]"),
    row("oidc.audience", "oidc-audience", "URL", "", "Audience of such tokens if the request names none, without the organization [default: oidc.issuer]"),
    row("audit.max_size_mib", "audit-max-size-mib", "MIB", "64", "Most space for the audit log; the oldest entries are removed first"),
    row("audit.max_age", "audit-max-age", "TIME", "90d", "How long entries of the audit log are kept"),
    row("secrets.key_file", "secrets-key-file", "FILE", "", "File that holds the key which seals secrets; made if absent [default: <data-dir>/secrets.key]"),
    row("metrics.token", "metrics-token", "WORD", "admin", "Token for /metrics: `admin` for the admin token, `none` for open access, or a token of its own"),

    row("memory.machines_mib", "memory-mib", "MIB", "", "Memory for machines in all [default: that of the host, less memory.host_reserve_mib]"),
    row("memory.host_reserve_mib", "memory-host-reserve-mib", "MIB", "512", "Memory that is left to the host if memory.machines_mib is not set"),
    row("memory.overcommit", "overcommit", "FACTOR", "1", "How many times its memory for machines the host promises; see `updraft host status`"),
    row("disk.overcommit", "disk-overcommit", "FACTOR", "20", "How many times its free disk space the host promises to machines' disks"),
    row("machines.keep_destroyed", "keep-destroyed", "TIME", "24h", "How long a destroyed machine and its events can still be read; at most 20000 machines of a host"),
    row("machines.cpu_baseline", "cpu-baseline", "BOOL", "false", "Hold shared CPUs to a sixteenth of a core each, with bursts, as Fly does; otherwise they use what is idle, by weight"),
    row("logs.max_size_mib", "logs-max-size-mib", "MIB", "16", "Most space for the log of one machine, or of an app itself; the oldest lines are removed first"),
    row("logs.max_total_mib", "logs-max-total-mib", "MIB", "4096", "Most space for all logs of this host; the oldest lines are removed first"),
    row("logs.max_age", "logs-max-age", "TIME", "7d", "How long log lines are kept"),
    row("logs.sinks_file", "log-sinks-file", "FILE", "", "File with the receivers that log lines are exported to (syslog, OTLP, Loki); see docs/logs.md"),
    row("vm.templates", "template", "CPUSxMIB,…", "1x256", "Sizes of machines that get a template ahead of time; others get theirs after a first boot"),
    row("vm.accelerator", "accelerator", "WORD", "auto", "kvm, tcg, or auto: found out by booting a guest"),
    row("vm.probe_deadline", "probe-deadline", "TIME", "10s", "How long the guest of that probe may take"),
    row("vm.qemu", "qemu", "FILE", "", "QEMU program [default: the one of the distribution]"),
    row("vm.boot_deadline", "boot-deadline", "TIME", "60s", "How long a VM may take to reach its init, and its init to run the app"),

    row("images.pull_deadline", "image-deadline", "TIME", "15m", "How long an image may take to be pulled"),
    row("images.compression", "image-compression", "WORD", "none", "none, lz4 or zstd: compression of root images"),
    row("images.registry_auth_file", "registry-auth-file", "FILE", "", "Logins for registries, as `docker login` writes them"),
    row("images.allow_loopback_registry", "allow-loopback-registry", "BOOL", "false", "Let images be pulled from registries at loopback addresses of this host, over plain HTTP"),
    row("images.keep_pulled", "image-keep", "TIME", "24h", "How long a pulled image stays after its last use; an imported one stays until `image rm`"),

    row("network.ipv4_pool", "ipv4-pool", "CIDR", "", "Private IPv4 addresses for machines, four for each [default: 172.30.0.0/16 for host 0, a /20 of its own in 10.192.0.0/10 for hosts 1 to 1024]"),
    row("network.mtu", "mtu", "BYTES", "1500", "MTU of the machines' interfaces"),
    row("network.masquerade", "masquerade", "BOOL", "true", "Hide machines behind the host's addresses on their way out"),
    row("network.nameservers", "nameserver", "ADDR,…", "", "Name servers for machines [default: those of the host that are not loopback]"),
    row("egress.block", "block-egress", "CIDR,…", "", "Destinations that machines must not reach"),
    row("egress.allow", "allow-egress", "CIDR,…", "", "Private destinations that machines may reach all the same"),

    row("log.filter", "log", "FILTER", "info", "What is logged: a level, or module=level,…"),
    row("log.format", "log-format", "WORD", "text", "text or json"),
];
