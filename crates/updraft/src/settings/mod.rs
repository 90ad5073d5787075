//! Settings of the daemon: flags, environment and file, parsed once into one
//! type that cannot be wrong; all complaints at once.

mod parse;
mod table;

pub(crate) use table::SettingArgs;

use camino::Utf8PathBuf;
use cli::{CliError, Exit};
use model::address::Ipv4Pool;
use model::id::{HostId, RegionCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use table::Texts;

/// How guests are to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantedAccelerator {
    /// Find out by booting a guest.
    Auto,
    /// This one or none.
    Only(vmm_qemu::Accelerator),
}

/// Everything the daemon is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: Utf8PathBuf,
    pub(crate) api: SocketAddr,
    pub(crate) allow_remote_api: bool,
    pub(crate) edge: Vec<SocketAddr>,
    pub(crate) domains: Vec<String>,
    pub(crate) region: RegionCode,
    pub(crate) host_id: HostId,
    pub(crate) admin_token_file: Utf8PathBuf,
    pub(crate) write_cli_config: bool,
    pub(crate) memory_mib: u64,
    pub(crate) overcommit: f64,
    pub(crate) templates: Vec<worker::ports::Shape>,
    pub(crate) ipv4_pool: Ipv4Pool,
    pub(crate) mtu: u16,
    pub(crate) masquerade: bool,
    pub(crate) block_egress: Vec<network_linux::Cidr>,
    pub(crate) allow_egress: Vec<network_linux::Cidr>,
    pub(crate) nameservers: Vec<String>,
    pub(crate) accelerator: WantedAccelerator,
    pub(crate) probe_deadline: Duration,
    pub(crate) qemu: Option<Utf8PathBuf>,
    pub(crate) boot_deadline: Duration,
    pub(crate) image_deadline: Duration,
    pub(crate) image_compression: oci::Compression,
    pub(crate) registry_auth_file: Option<Utf8PathBuf>,
    pub(crate) autostop_interval: Duration,
    pub(crate) wake_timeout: Duration,
    pub(crate) log: String,
    pub(crate) log_json: bool,
}

impl Settings {
    /// From the flags, the environment and the file that either names.
    ///
    /// # Errors
    /// All complaints at once, as one usage error.
    pub(crate) fn load(
        args: &SettingArgs,
        vars: &BTreeMap<String, String>,
    ) -> Result<Self, CliError> {
        let texts = Texts::gather(args, vars).map_err(|problems| complain(&problems))?;
        Self::parse(&texts).map_err(|problems| complain(&problems))
    }

    /// The data directory under its one true path: names of what a daemon makes
    /// are derived from it, however it is written. It has to exist.
    pub(crate) fn resolve_data_dir(&mut self) {
        if let Ok(path) = self.data_dir.canonicalize_utf8() {
            self.data_dir = path;
        }
    }

    fn parse(texts: &Texts) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let p = &mut problems;
        let data_dir: Utf8PathBuf = texts.get("data-dir").into();
        if !data_dir.is_absolute() {
            p.push(texts.complaint("data-dir", "it has to be an absolute path"));
        }
        let settings = Self {
            api: texts.parse("api", p, parse::address),
            allow_remote_api: texts.parse("allow-remote-api", p, parse::flag),
            edge: texts.parse_list("edge", p, parse::address),
            domains: texts.parse_list("domain", p, parse::domain),
            region: texts.parse("region", p, |text| {
                text.parse().map_err(|err: model::id::BadId| err.to_string())
            }),
            host_id: texts.parse("host-id", p, |text| parse::number(text).map(HostId)),
            admin_token_file: match texts.get("admin-token-file") {
                "" => data_dir.join("admin-token"),
                given => given.into(),
            },
            write_cli_config: texts.parse("write-cli-config", p, parse::flag),
            memory_mib: texts.parse("memory-mib", p, parse::memory),
            overcommit: texts.parse("overcommit", p, parse::overcommit),
            templates: texts.parse_list("template", p, parse::shape),
            ipv4_pool: texts.parse("ipv4-pool", p, parse::pool),
            mtu: texts.parse("mtu", p, parse::mtu),
            masquerade: texts.parse("masquerade", p, parse::flag),
            block_egress: texts.parse_list("block-egress", p, |text| {
                text.parse().map_err(|err: network_linux::BadConfig| err.to_string())
            }),
            allow_egress: texts.parse_list("allow-egress", p, |text| {
                text.parse().map_err(|err: network_linux::BadConfig| err.to_string())
            }),
            nameservers: texts.parse_list("nameserver", p, parse::nameserver),
            accelerator: texts.parse("accelerator", p, parse::accelerator),
            probe_deadline: texts.parse("probe-deadline", p, parse::duration),
            qemu: Some(texts.get("qemu")).filter(|path| !path.is_empty()).map(Into::into),
            boot_deadline: texts.parse("boot-deadline", p, parse::duration),
            image_deadline: texts.parse("image-deadline", p, parse::duration),
            image_compression: texts.parse("image-compression", p, parse::compression),
            registry_auth_file: Some(texts.get("registry-auth-file"))
                .filter(|path| !path.is_empty())
                .map(Into::into),
            autostop_interval: texts.parse("autostop-interval", p, parse::duration),
            wake_timeout: texts.parse("wake-timeout", p, parse::duration),
            log: texts.get("log").into(),
            log_json: texts.parse("log-format", p, parse::log_format),
            data_dir,
        };
        if !settings.api.ip().is_loopback() && !settings.allow_remote_api {
            let why = "it is not a loopback address, and the API does not speak TLS yet; put a \
                       TLS proxy in front of it, or say --allow-remote-api=true if the network \
                       between is trusted";
            problems.push(texts.complaint("api", why));
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

fn complain(problems: &[String]) -> CliError {
    CliError::new(Exit::Usage, "Cannot start with these settings")
        .because(problems.join("\n           "))
        .hint("`updraft up --help` lists all settings.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[(&str, &str)], vars: &[(&str, &str)]) -> Result<Settings, String> {
        let args = SettingArgs::from_pairs(flags);
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::load(&args, &vars).map_err(|err| err.render())
    }

    #[test]
    fn the_defaults_are_valid() {
        let settings = load(&[], &[]).unwrap();
        assert_eq!(settings.api.to_string(), "127.0.0.1:4280");
        assert_eq!(settings.edge[0].to_string(), "127.0.0.1:8080");
        assert_eq!(settings.admin_token_file, "/var/lib/updraft/admin-token");
        assert!(settings.memory_mib > 0);
        assert_eq!(settings.templates, [worker::ports::Shape { vcpus: 1, memory_mib: 256 }]);
    }

    #[test]
    fn flags_before_environment_before_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("updraft.toml");
        std::fs::write(&file, "region = \"file\"\nmtu = 1400\nedge = [\"127.0.0.1:1\"]\n").unwrap();
        let file = file.to_str().unwrap();
        let vars = [("UPDRAFT_CONFIG", file), ("UPDRAFT_REGION", "vars")];
        let settings = load(&[], &vars).unwrap();
        assert_eq!((settings.region.as_str(), settings.mtu), ("vars", 1400));
        let settings = load(&[("region", "flag")], &vars).unwrap();
        assert_eq!(settings.region.as_str(), "flag");
        assert_eq!(settings.edge[0].port(), 1);
    }

    #[test]
    fn all_complaints_come_at_once() {
        let flags = [
            ("api", "nonsense"),
            ("region", "No"),
            ("overcommit", "0.5"),
            ("template", "2"),
            ("ipv4-pool", "10.0.0.1/8"),
        ];
        let text = load(&flags, &[("UPDRAFT_MTU", "3")]).unwrap_err();
        for name in
            ["--api", "--region", "--ipv4-pool", "--overcommit", "--template", "UPDRAFT_MTU"]
        {
            assert!(text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn an_unknown_key_of_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("updraft.toml");
        std::fs::write(&file, "regoin = \"x\"").unwrap();
        let text = load(&[("config", file.to_str().unwrap())], &[]).unwrap_err();
        assert!(text.contains("regoin"), "{text}");
    }

    #[test]
    fn the_api_stays_on_loopback_until_told_otherwise() {
        assert!(load(&[("api", "0.0.0.0:4280")], &[]).unwrap_err().contains("TLS"));
        assert!(load(&[("api", "0.0.0.0:4280"), ("allow-remote-api", "true")], &[]).is_ok());
    }
}
