//! What settings come to, and how they are refused.

use super::keys::SETTINGS;
use super::*;

fn load(flags: &[(&str, &str)], vars: &[(&str, &str)]) -> Result<Settings, String> {
    let args = SettingArgs::from_pairs(flags);
    let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::load(&args, &vars).map_err(|err| err.render())
}

fn load_file(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("updraft.toml");
    std::fs::write(&file, text).unwrap();
    load(&[("config", file.to_str().unwrap())], &[])
}

#[test]
fn the_defaults_are_valid() {
    let settings = load(&[], &[]).unwrap();
    assert_eq!(settings.listen.api.to_string(), "127.0.0.1:4280");
    assert_eq!(settings.listen.edge[0].to_string(), "127.0.0.1:8080");
    assert_eq!(settings.listen.host_api, None);
    assert_eq!(settings.admin.token_file, "/var/lib/updraft/admin-token");
    assert_eq!(settings.roles, [Role::Control, Role::Worker, Role::Edge]);
    assert_eq!(settings.metrics, MetricsAccess::AdminToken);
    assert!(settings.memory.machines_mib > 0);
    assert_eq!(settings.vm.templates, [worker::ports::Shape { vcpus: 1, memory_mib: 256 }]);
    assert!(!settings.host.name.is_empty() && settings.tls.is_none());
}

#[test]
fn hosts_have_private_addresses_of_their_own() {
    let pool = |flags: &[(&str, &str)]| {
        let (base, prefix) = load(flags, &[]).unwrap().network.ipv4_pool.cidr();
        format!("{base}/{prefix}")
    };
    assert_eq!(pool(&[]), "172.30.0.0/16");
    assert_eq!(pool(&[("host-number", "1")]), "10.192.0.0/20");
    assert_eq!(pool(&[("host-number", "2")]), "10.192.16.0/20");
    assert_eq!(pool(&[("host-number", "1024")]), "10.255.240.0/20");
    let given = [("host-number", "1025"), ("ipv4-pool", "10.1.0.0/16")];
    assert_eq!(pool(&given), "10.1.0.0/16");
    let refused = load(&given[..1], &[]).unwrap_err();
    assert!(refused.contains("1025") && refused.contains("network.ipv4_pool"), "{refused}");
}

#[test]
fn flags_before_environment_before_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("updraft.toml");
    let text =
        "[host]\nregion = \"file\"\n[network]\nmtu = 1400\n[listen]\nedge = [\"127.0.0.1:1\"]\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let vars = [("UPDRAFT_CONFIG", file), ("UPDRAFT_REGION", "vars")];
    let settings = load(&[], &vars).unwrap();
    assert_eq!((settings.host.region.as_str(), settings.network.mtu), ("vars", 1400));
    let settings = load(&[("region", "flag")], &vars).unwrap();
    assert_eq!(settings.host.region.as_str(), "flag");
    assert_eq!(settings.listen.edge[0].port(), 1);
}

#[test]
fn a_whole_file_with_sections() {
    let settings = load_file(
        r#"
        data_dir = "/srv/updraft"
        roles = ["edge", "control"]
        [host]
        name = "Alpha"
        number = 7
        region = "ams"
        region_codes = ["lhr"]
        region_aliases = ["iad", "fra"]
        [listen]
        api = "http://127.0.0.1:1/"
        host_api = "10.0.0.1:4281"
        [[peers]]
        number = 2
        name = "beta"
        address = "10.0.0.2:4281"
        [[peers]]
        number = 3
        name = "gamma"
        address = "10.0.0.3:4281"
        [tls]
        ca = "/etc/updraft/ca.pem"
        cert = "/etc/updraft/host.pem"
        key = "/etc/updraft/host.key"
        [metrics]
        token = "0123456789abcdef"
        [memory]
        machines_mib = 2048
        overcommit = 1.5
        [disk]
        overcommit = 2
        [egress]
        allow = ["10.1.0.0/16"]
        block = []
        [log]
        filter = "debug"
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(settings.roles, [Role::Control, Role::Edge]);
    assert_eq!((settings.host.name.as_str(), settings.host.number), ("alpha", HostId(7)));
    let aliases: Vec<_> = settings.host.region_aliases.iter().map(RegionCode::as_str).collect();
    assert_eq!(aliases, ["iad", "fra"]);
    assert_eq!(settings.host.region_codes.len(), 1);
    assert_eq!(settings.listen.api.port(), 1);
    assert_eq!(settings.listen.host_api.unwrap().to_string(), "10.0.0.1:4281");
    let peers: Vec<_> =
        settings.peers.iter().map(|p| format!("{} {} {}", p.number, p.name, p.address)).collect();
    assert_eq!(peers, ["2 beta 10.0.0.2:4281", "3 gamma 10.0.0.3:4281"]);
    assert_eq!(settings.tls.unwrap().key, "/etc/updraft/host.key");
    assert_eq!(settings.metrics, MetricsAccess::Token("0123456789abcdef".into()));
    assert_eq!((settings.memory.machines_mib, settings.memory.overcommit), (2048, 1.5));
    assert_eq!(settings.disk.overcommit, 2);
    assert_eq!(settings.network.allow_egress.len(), 1);
    assert!(settings.log.json && settings.log.filter == "debug");
}

/// Every key that the first released file format had, with a value for it.
const FLAT: &str = r#"
data-dir = "/srv/x"
api = "127.0.0.1:11"
allow-remote-api = true
edge = ["127.0.0.1:12", "127.0.0.1:13"]
domain = ["a.test", "b.test"]
region = "old"
host-id = 5
admin-token-file = "/srv/token"
write-cli-config = false
memory-mib = 777
overcommit = 2
template = "2x512"
ipv4-pool = "10.9.0.0/16"
mtu = 1400
masquerade = false
block-egress = ["10.0.0.0/8"]
nameserver = "9.9.9.9"
accelerator = "tcg"
probe-deadline = "11s"
qemu = "/opt/qemu"
boot-deadline = "12s"
image-deadline = "13s"
image-compression = "zstd"
registry-auth-file = "/srv/auth"
autostop-interval = "14s"
wake-timeout = "15s"
log = "warn"
log-format = "json"
"#;

#[test]
fn every_flat_key_of_earlier_files_still_works() {
    let s = load_file(FLAT).unwrap();
    let secs = |d: Duration| d.as_secs();
    assert_eq!(s.data_dir, "/srv/x");
    assert_eq!(s.listen.api.port(), 11);
    assert_eq!(s.listen.edge.iter().map(SocketAddr::port).collect::<Vec<_>>(), [12, 13]);
    assert_eq!(s.edge.domains, ["a.test", "b.test"]);
    assert_eq!((s.host.region.as_str(), s.host.number), ("old", HostId(5)));
    assert_eq!(s.admin.token_file, "/srv/token");
    assert!(!s.admin.write_cli_config && !s.network.masquerade && s.log.json);
    assert_eq!((s.memory.machines_mib, s.memory.overcommit), (777, 2.0));
    assert_eq!(s.vm.templates, [worker::ports::Shape { vcpus: 2, memory_mib: 512 }]);
    assert_eq!(s.network.ipv4_pool, parse::optional_pool("10.9.0.0/16").unwrap().unwrap());
    assert_eq!((s.network.mtu, s.network.block_egress.len()), (1400, 1));
    assert_eq!(s.network.nameservers, ["9.9.9.9"]);
    assert_eq!(s.vm.accelerator, WantedAccelerator::Only(vmm_qemu::Accelerator::Tcg));
    assert_eq!((secs(s.vm.probe_deadline), secs(s.vm.boot_deadline)), (11, 12));
    assert_eq!(s.vm.qemu.unwrap(), "/opt/qemu");
    assert_eq!(secs(s.images.pull_deadline), 13);
    assert_eq!(s.images.compression, oci::Compression::Zstd);
    assert_eq!(s.images.registry_auth_file.unwrap(), "/srv/auth");
    assert_eq!((secs(s.edge.autostop_interval), secs(s.edge.wake_timeout)), (14, 15));
    assert_eq!(s.log.filter, "warn");
    // The same keys as flags and variables of today and of then.
    assert_eq!(load(&[], &[("UPDRAFT_HOST_ID", "6")]).unwrap().host.number, HostId(6));
    let keys: Vec<&str> =
        FLAT.lines().filter_map(|line| line.split_once(" =")).map(|l| l.0).collect();
    let command = <SettingArgs as clap::Args>::augment_args(clap::Command::new("x"));
    for key in keys {
        let flag = format!("--{key}=1");
        assert!(command.clone().try_get_matches_from(["x", &flag]).is_ok(), "{flag}");
    }
}

#[test]
fn all_complaints_come_at_once() {
    let flags = [
        ("api", "nonsense"),
        ("region", "No"),
        ("overcommit", "0.5"),
        ("template", "2"),
        ("ipv4-pool", "10.0.0.1/8"),
        ("roles", "control,boss"),
        ("peer", "b"),
        ("tls-ca", "/ca"),
        ("host-api", "10.0.0.1:1"),
        ("metrics-token", "short-secret"),
    ];
    let text = load(&flags, &[("UPDRAFT_MTU", "3")]).unwrap_err();
    for name in [
        "--api",
        "--region",
        "--ipv4-pool",
        "--overcommit",
        "--template",
        "UPDRAFT_MTU",
        "boss: a role is control, worker or edge",
        "NAME=ADDRESS:PORT",
        "tls.cert is missing",
        "tls.key is missing",
        "--host-api",
        "metrics.token",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(!text.contains("short-secret"), "a token is not shown: {text}");
}

#[test]
fn unknown_keys_of_the_file_are_named_with_what_was_meant() {
    for (text, expected) in [
        ("regoin = \"x\"", "there is no setting \"regoin\"; did you mean host.region?"),
        ("[listen]\nappi = \"x\"", "\"listen.appi\"; did you mean listen.api?"),
        ("[nowhere]\nzzz = 1", "there is no setting \"nowhere\"; `updraft up --help` lists"),
        ("mtu = 1400\n[network]\nmtu = 1500", "network.mtu is given twice"),
        ("[listen.api]\nx = 1", "listen.api has to be a text"),
    ] {
        let refused = load_file(text).unwrap_err();
        assert!(refused.contains(expected), "{expected} in {refused}");
    }
}

#[test]
fn the_api_stays_on_loopback_until_set_otherwise() {
    assert!(load(&[("api", "0.0.0.0:4280")], &[]).unwrap_err().contains("TLS"));
    assert!(load(&[("api", "0.0.0.0:4280"), ("allow-remote-api", "true")], &[]).is_ok());
}

#[test]
fn the_api_s_address_as_an_address_or_as_a_url() {
    for (text, address) in [
        ("127.0.0.1:1", Some("127.0.0.1:1")),
        ("http://127.0.0.1:4280", Some("127.0.0.1:4280")),
        ("http://127.0.0.1:4280/", Some("127.0.0.1:4280")),
        ("http://localhost:7", Some("127.0.0.1:7")),
        ("localhost:7", Some("127.0.0.1:7")),
        ("http://[::1]:7", Some("[::1]:7")),
        ("https://127.0.0.1:7", None),
        ("http://127.0.0.1", None),
        ("http://127.0.0.1:7/v1", None),
        ("", None),
    ] {
        let got = parse::api_address(text).ok().map(|address| address.to_string());
        assert_eq!(got.as_deref(), address, "{text}");
    }
    let settings = load(&[], &[("UPDRAFT_API", "http://127.0.0.1:4281")]).unwrap();
    assert_eq!(settings.listen.api.port(), 4281);
}

#[test]
fn tunnels_end_at_one_address_or_nowhere() {
    for (text, address) in [
        ("127.0.0.44", Some("127.0.0.44:443")),
        ("127.0.0.44:0", Some("127.0.0.44:0")),
        ("::1", Some("[::1]:443")),
        ("off", None),
        ("", None),
    ] {
        let settings = load(&[("tunnel", text)], &[]).unwrap();
        assert_eq!(settings.listen.tunnel.map(|at| at.to_string()).as_deref(), address, "{text}");
    }
    assert!(!load(&[], &[]).unwrap().flyctl.host_names, "off by default");
    let names = ("fly-host-names", "true");
    for (flags, why) in [
        (vec![("tunnel", "x")], "ADDRESS, ADDRESS:PORT or off"),
        (vec![("tunnel", "0.0.0.0")], "give flyctl.tunnel_address"),
        (vec![("tunnel", "off"), names], "needs listen.tunnel"),
        (vec![("tunnel", "192.0.2.1"), names], "--allow-remote-api=true"),
        (vec![("tunnel-address", "192.0.2.1:443")], "has to be an IP address"),
    ] {
        let refused = load(&flags, &[]).unwrap_err();
        assert!(refused.contains(why), "{flags:?}: {refused}");
    }
    let public = [("tunnel", "0.0.0.0"), ("tunnel-address", "192.0.2.1")];
    assert!(load(&public, &[]).is_ok());
}

#[test]
fn names_and_keys_are_each_one_setting_s() {
    let mut names: Vec<_> =
        SETTINGS.iter().flat_map(|s| [s.key.replace('-', "_"), s.name.into()]).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    // `roles`, `qemu` and the like may have one name for both.
    let same = SETTINGS.iter().filter(|s| s.key == s.name).count();
    assert_eq!(names.len() + same, all);
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate.md");
const BEGIN: &str =
    "<!-- settings: `UPDATE_DOCS=1 cargo test -p updraft settings` writes this -->\n";
const END: &str = "<!-- end of settings -->\n";

fn table_of_settings() -> String {
    let mut text = String::from("| key | flag | default | what it is |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        // The default of one that is found out at start is in its text.
        let help = setting.help.replace('|', "\\|").replace('<', "&lt;");
        text.push_str(&format!(
            "| `{}` | `--{}` | {default} | {help} |\n",
            setting.key, setting.name
        ));
    }
    text
}

#[test]
fn the_page_lists_every_setting_and_no_other() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let wanted = table_of_settings();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(table, wanted, "run UPDATE_DOCS=1 cargo test -p updraft settings");
}

#[test]
fn two_hosts_cannot_have_one_number() {
    let tls = [("tls-ca", "/a"), ("tls-cert", "/b"), ("tls-key", "/c"), ("host-number", "1")];
    let with = |peers| load(&[tls.as_slice(), &[("peer", peers)]].concat(), &[]);
    let twice = with("2:b=10.0.0.2:1,2:c=10.0.0.3:1").unwrap_err();
    assert!(twice.contains("b and c both have the number 2"), "{twice}");
    let own = with("1:b=10.0.0.2:1").unwrap_err();
    assert!(own.contains("b has the number of this host, 1 (host.number)"), "{own}");
    assert!(with("2:b=10.0.0.2:1,3:c=10.0.0.3:1").is_ok());
}

#[test]
fn metrics_without_the_api_need_a_token_of_their_own() {
    let worker = [("roles", "worker"), ("metrics", "127.0.0.1:9"), ("metrics-token", "admin")];
    let refused = load(&worker, &[]).unwrap_err();
    assert!(refused.contains("metrics.token to a token of its own"), "{refused}");
    for token in ["none", "0123456789abcdef"] {
        let settings = load(&[worker[0], worker[1], ("metrics-token", token)], &[]).unwrap();
        assert_eq!(settings.listen.metrics.unwrap().port(), 9);
    }
    assert!(load(&worker[1..], &[]).is_ok(), "with the API");
}

#[test]
fn sinks_of_logs_are_read_with_the_settings_and_each_mistake_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sinks.toml");
    let file = path.to_str().unwrap();
    let given = [("log-sinks-file", file), ("logs-max-age", "2d"), ("logs-max-size-mib", "1")];
    let missing = load(&given, &[]).unwrap_err();
    assert!(missing.contains("sinks.toml") && missing.contains("cannot be read"), "{missing}");
    let sink = "[[sink]]\nname = \"s\"\ntype = \"syslog\"\n";
    std::fs::write(&path, format!("{sink}address = \"udp://x:1\"")).unwrap();
    let wrong = load(&given, &[]).unwrap_err();
    assert!(wrong.contains("sink \"s\": address has to be"), "{wrong}");
    std::fs::write(&path, format!("{sink}address = \"tcp://x:1\"")).unwrap();
    let logs = load(&given, &[]).unwrap().logs;
    let age = Duration::from_secs(2 * 24 * 3600);
    let limits = worker::LogLimits { log_bytes: 1 << 20, total_bytes: 4 << 30, age };
    assert_eq!((logs.sinks.len(), logs.limits), (1, limits));
    for (flag, value) in
        [("logs-max-size-mib", "0"), ("logs-max-total-mib", "x"), ("logs-max-age", "1s")]
    {
        let refused = load(&[(flag, value)], &[]).unwrap_err();
        assert!(refused.contains(&format!("--{flag}")), "{refused}");
    }
}
