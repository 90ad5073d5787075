//! The table of all settings: one row makes the flag, the variable, the key of
//! the file and the line in the help.

use clap::{Arg, ArgMatches, Command};
use std::collections::BTreeMap;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Flag `--name`, variable `UPDRAFT_NAME`, key `name`.
    pub(crate) name: &'static str,
    /// Shown in the help.
    pub(crate) value: &'static str,
    /// Empty means: found out at start, or off.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

const fn row(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, value, default, help }
}

/// All settings of the daemon.
pub(crate) const SETTINGS: &[Setting] = &[
    row("data-dir", "DIR", "/var/lib/updraft", "Where all state lives"),
    row("api", "ADDR", "127.0.0.1:4280", "Where the API listens"),
    row(
        "allow-remote-api",
        "BOOL",
        "false",
        "Let the API listen on an address that is not loopback, without TLS",
    ),
    row("edge", "ADDR,…", "127.0.0.1:8080", "Where the edge listens"),
    row("domain", "NAME,…", "localhost", "An app answers at <app>.<domain> for each of these"),
    row("region", "CODE", "local", "Region code of this host"),
    row("host-id", "NUMBER", "0", "Number of this host, 0 to 65535; part of machine ids"),
    row(
        "admin-token-file",
        "FILE",
        "",
        "File that holds the admin token; made if absent [default: <data-dir>/admin-token]",
    ),
    row(
        "write-cli-config",
        "BOOL",
        "true",
        "Write ~/.updraft/config.toml for the command line, if there is none",
    ),
    row(
        "memory-mib",
        "MIB",
        "",
        "Memory for machines in all [default: that of the host, less 512 MiB]",
    ),
    row(
        "overcommit",
        "FACTOR",
        "1",
        "How many times its memory for machines the host promises; see `updraft host status`",
    ),
    row(
        "template",
        "CPUSxMIB,…",
        "1x256",
        "Sizes of machines that get a template ahead of time; others get theirs after a first boot",
    ),
    row("ipv4-pool", "CIDR", "172.30.0.0/16", "Private IPv4 addresses for machines, four for each"),
    row("mtu", "BYTES", "1500", "MTU of the machines' interfaces"),
    row("masquerade", "BOOL", "true", "Hide machines behind the host's addresses on their way out"),
    row("block-egress", "CIDR,…", "", "Destinations that machines must not reach"),
    row(
        "allow-egress",
        "CIDR,…",
        "",
        "Private destinations that machines may reach; others are closed to them",
    ),
    row(
        "nameserver",
        "ADDR,…",
        "",
        "Name servers for machines [default: those of the host that are not loopback]",
    ),
    row("accelerator", "WORD", "auto", "kvm, tcg, or auto: found out by booting a guest"),
    row("probe-deadline", "TIME", "10s", "How long the guest of that probe may take"),
    row("qemu", "FILE", "", "QEMU program [default: the one of the distribution]"),
    row(
        "boot-deadline",
        "TIME",
        "60s",
        "How long a VM may take to reach its init, and its init to run the app",
    ),
    row("image-deadline", "TIME", "15m", "How long an image may take to be pulled"),
    row("image-compression", "WORD", "none", "none, lz4 or zstd: compression of root images"),
    row("registry-auth-file", "FILE", "", "Logins for registries, as `docker login` writes them"),
    row("autostop-interval", "TIME", "60s", "How often the autostop rule is applied"),
    row(
        "wake-timeout",
        "TIME",
        "60s",
        "How long a request waits for a machine to start and listen",
    ),
    row("log", "FILTER", "info", "What is logged: a level, or module=level,…"),
    row("log-format", "WORD", "text", "text or json"),
];

/// The flags of all settings, as given.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingArgs(BTreeMap<String, String>);

impl SettingArgs {
    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }
}

impl clap::Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config").long("config").value_name("FILE");
        let config = config.help("TOML file with any of these settings [env: UPDRAFT_CONFIG]");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                text => format!(" [default: {text}]"),
            };
            let help = format!("{}{default} [env: {}]", setting.help, variable(setting.name));
            let arg = Arg::new(setting.name).long(setting.name).value_name(setting.value);
            command.arg(arg.help(help))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = SETTINGS.iter().map(|setting| setting.name).chain(["config"]);
        let given = names.filter_map(|name| Some((name, matches.get_one::<String>(name)?)));
        Ok(Self(given.map(|(name, value)| (name.to_owned(), value.clone())).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn variable(name: &str) -> String {
    format!("UPDRAFT_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Each setting's text and where it came from.
pub(super) struct Texts(BTreeMap<&'static str, (String, String)>);

impl Texts {
    /// Flag, else variable, else file, else default.
    pub(super) fn gather(
        args: &SettingArgs,
        vars: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<String>> {
        let set = |name: &str| vars.get(&variable(name)).filter(|value| !value.is_empty());
        let file = match args.0.get("config").or_else(|| set("config")) {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        let text = |setting: &Setting| {
            let name = setting.name;
            if let Some(text) = args.0.get(name) {
                (text.clone(), format!("--{name}"))
            } else if let Some(text) = set(name) {
                (text.clone(), variable(name))
            } else if let Some(found) = file.get(name) {
                found.clone()
            } else {
                (setting.default.to_owned(), format!("the default of {name}"))
            }
        };
        Ok(Self(SETTINGS.iter().map(|setting| (setting.name, text(setting))).collect()))
    }

    pub(super) fn get(&self, name: &str) -> &str {
        &self.entry(name).0
    }

    fn entry(&self, name: &str) -> &(String, String) {
        self.0.get(name).expect("every setting that is read is in the table")
    }

    pub(super) fn complaint(&self, name: &str, why: &str) -> String {
        let (text, source) = self.entry(name);
        format!("{source} {text:?}: {why}")
    }

    /// The parsed value; after a complaint any value will do, since the
    /// settings are then refused as a whole: the default's.
    pub(super) fn parse<T>(
        &self,
        name: &str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        parse(self.get(name)).unwrap_or_else(|why| {
            problems.push(self.complaint(name, &why));
            let known = SETTINGS.iter().find(|setting| setting.name == name);
            let default = known.map_or("", |setting| setting.default);
            parse(default).unwrap_or_else(|_| unreachable!("the default of {name} is valid"))
        })
    }

    /// The parsed items of a list, separated by commas; may be empty.
    pub(super) fn parse_list<T>(
        &self,
        name: &str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = self.get(name).split(',').map(str::trim).filter(|item| !item.is_empty());
        let parsed = items.map(|item| parse(item).map_err(|why| format!("{item}: {why}")));
        parsed.collect::<Result<_, _>>().unwrap_or_else(|why| {
            problems.push(self.complaint(name, &why));
            Vec::new()
        })
    }
}

type Found = BTreeMap<String, (String, String)>;

fn read_file(path: &str) -> Result<Found, Vec<String>> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|err| vec![format!("config file {path} cannot be read: {err}")])?;
    let table: toml::Table =
        text.parse().map_err(|err| vec![format!("config file {path} does not parse: {err}")])?;
    let mut problems = Vec::new();
    let mut found = BTreeMap::new();
    for (key, value) in table {
        if !SETTINGS.iter().any(|setting| setting.name == key) {
            problems.push(format!("config file {path}: there is no setting {key:?}"));
        } else if let Some(text) = plain(&value) {
            found.insert(key.clone(), (text, format!("{path}: {key}")));
        } else {
            problems.push(format!("config file {path}: {key} has to be plain or a list of such"));
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(plain).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}
