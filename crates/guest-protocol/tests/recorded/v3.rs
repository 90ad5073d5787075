//! The messages of version 3, as its hosts and inits write them.

use guest_protocol::*;

common_messages!();

/// Whether a message is about units, volumes, the token or the API over TCP, which version 2 does
/// not know.
pub(crate) fn is_new(name: &str) -> bool {
    name.starts_with("unit_") || name == "api_open_tcp" || name == "volumes_configure"
}

/// A config with a container and all that it may have, and a process.
fn config_with_units() -> GuestConfig {
    let main = Main { argv: vec!["/bin/web".into()], ..Main::default() };
    let check = |name: &str, probe| UnitCheck {
        name: name.into(),
        stops: true,
        interval_ms: 10_000,
        timeout_ms: 2000,
        grace_ms: 5000,
        success_threshold: 1,
        failure_threshold: 3,
        probe,
    };
    let http = Probe::Http {
        port: 8080,
        method: "GET".into(),
        path: "/up".into(),
        headers: vec![("host".into(), "web".into())],
    };
    let conditions = [Condition::Started, Condition::Healthy, Condition::ExitedSuccessfully];
    let file = GuestFile { path: "/etc/a".into(), mode: 0o600, content: vec![1, 0] };
    let container = Container {
        image: Some(1),
        files: vec![file],
        restart: RestartRule {
            when: RestartWhen::OnFailure,
            max_retries: 10,
            window_ms: 300_000,
            pauses_ms: vec![0, 500, 1000],
        },
        stop_signal: Some(15),
        stop_timeout_ms: Some(5000),
        depends_on: conditions.map(|condition| Dependency { unit: 1, condition }).into(),
        checks: vec![
            check("tcp", Probe::Tcp(80)),
            check("http", http),
            check("exec", Probe::Exec(vec!["true".into()])),
        ],
        mounts: vec![UnitMount { volume: 0, path: "/cache".into() }],
    };
    let container = Unit { name: "web".into(), main: main.clone(), container: Some(container) };
    let process = Unit { name: String::new(), main, container: None };
    GuestConfig {
        units: Some(vec![container, process]),
        images: Some(vec![Device { path: "/dev/vdc".into(), fstype: "squashfs".into() }]),
        volumes: Some(vec![
            TempDir { name: "cache".into(), memory_mib: Some(64) },
            TempDir { name: "data".into(), memory_mib: None },
        ]),
        ..GuestConfig::default()
    }
}

/// A config of a machine that assumes a role of AWS.
fn config_with_token() -> GuestConfig {
    GuestConfig { oidc_audience: Some("sts.amazonaws.com".into()), ..GuestConfig::default() }
}

/// A config of a machine with two volumes.
fn config_with_volumes() -> GuestConfig {
    let mount = |device: &str, fstype: &str, path: &str| VolumeMount {
        device: Device { path: device.into(), fstype: fstype.into() },
        path: path.into(),
    };
    let mounts = vec![mount("/dev/vdc", "ext4", "/data"), mount("/dev/vdd", "raw", "/disk")];
    GuestConfig { mounts: Some(mounts), ..GuestConfig::default() }
}

/// Every message that a version 3 host sends, by name.
pub(crate) fn to_guest() -> Vec<(&'static str, ToGuest)> {
    let mut messages = common_to_guest();
    messages.extend([
        ("hello", ToGuest::Hello { version: 3, session: 0x0123_4567_89ab_cdef, lowest: 2 }),
        ("log_received", ToGuest::LogReceived(LogSource::Stderr, 1 << 33, None)),
        ("read_stats", ToGuest::ReadStats(3)),
        ("unit_configure", ToGuest::Configure(Box::new(config_with_units()))),
        ("unit_configure_oidc", ToGuest::Configure(Box::new(config_with_token()))),
        ("volumes_configure", ToGuest::Configure(Box::new(config_with_volumes()))),
        ("unit_log_received", ToGuest::LogReceived(LogSource::Stdout, 7, Some(1))),
        ("unit_exec", ToGuest::Exec(3, Exec { unit: Some(1), ..Exec::default() })),
    ]);
    messages
}

fn stats() -> GuestStats {
    let root = FileSystem {
        mount: "/".into(),
        block_size: 4096,
        blocks: 9,
        blocks_free: 8,
        blocks_avail: 7,
    };
    GuestStats {
        loadavg: "0.1 0.2 0.3".into(),
        stat: "cpu0 1".into(),
        meminfo: "MemTotal: 1 kB".into(),
        diskstats: "254 0 vda 1".into(),
        net_dev: "eth0: 1".into(),
        file_nr: "1 0 9".into(),
        filesystems: vec![root],
    }
}

/// Every message that a version 3 init sends, by name.
pub(crate) fn to_host() -> Vec<(&'static str, ToHost)> {
    let log = |source, data: &[u8]| {
        let (offset, data) = (Some(4096), data.to_vec());
        ToHost::Log { source, offset, data, unit: None }
    };
    let failed = "command `x` not found in PATH".into();
    let mut messages = common_to_host(3);
    messages.extend([
        ("log_stdout", log(LogSource::Stdout, b"one\ntwo\n\0")),
        ("log_stderr", log(LogSource::Stderr, b"error\n")),
        ("log_init", log(LogSource::Init, b"Starting init\n")),
        ("exec_failed", ToHost::ExecFailed(1, failed, Some(ExecErrorKind::NotFound))),
        ("api_open", ToHost::ApiOpen(4, false)),
        ("api_open_tcp", ToHost::ApiOpen(4, true)),
        ("stats", ToHost::Stats(3, Box::new(stats()))),
        (
            "unit_log",
            ToHost::Log {
                source: LogSource::Stdout,
                offset: Some(9),
                data: b"x\n".into(),
                unit: Some(1),
            },
        ),
    ]);
    let states = [
        ("unit_waiting", UnitState::Waiting),
        ("unit_started", UnitState::Started),
        ("unit_healthy", UnitState::Healthy),
        ("unit_unhealthy", UnitState::Unhealthy),
        ("unit_restarting", UnitState::Restarting),
        ("unit_stopped", UnitState::Stopped),
    ];
    let status = |state, exit| ToHost::Unit(UnitStatus { unit: 1, state, exit });
    messages.extend(states.map(|(name, state)| (name, status(state, None))));
    let exit = Exit { code: 1, signal: 0, oom: false };
    messages.extend([("unit_failed", status(UnitState::Failed, Some(exit)))]);
    messages
}
