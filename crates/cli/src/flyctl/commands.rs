//! Commands of flyctl that are not here yet, and what to use meanwhile.

use crate::error::CliError;

/// Group (empty: none), name, what to use in its place.
pub(crate) const ABSENT: &[(&str, &str, &str)] = &[
    ("", "certs", "put a TLS proxy in front of the edge"),
    ("", "clone", "`updraft machine run` with the config that `machine status -d` shows"),
    ("", "config", "`updraft machine status -d` shows a machine's config"),
    ("", "console", SHELL),
    ("", "consul", NONE),
    ("", "deploy", "`updraft image import` and `updraft machine run` start an image"),
    ("", "dig", NONE),
    ("", "docs", "the docs are in the folder docs/"),
    ("", "domains", NONE),
    ("", "extensions", NONE),
    ("", "ips", "an app answers at <app>.<domain>, see --domain of `updraft up`"),
    ("", "launch", "`updraft apps create` and `updraft machine run` start an image"),
    ("", "mcp", NONE),
    ("", "monitor", "`updraft status --watch` shows an app"),
    ("", "ping", NONE),
    ("", "platform", "`updraft host status` shows the hosts"),
    ("", "postgres", NONE),
    ("", "pg", NONE),
    ("", "proxy", NONE),
    ("", "redis", NONE),
    ("", "regions", "a host's region is its setting host.region"),
    ("", "registry", "`updraft image import` takes images of this machine"),
    ("", "releases", NONE),
    ("", "resume", "`updraft machine start` starts machines"),
    ("", "scale", "`updraft machine run` adds machines, `updraft machine update` resizes them"),
    ("", "services", "`updraft machine status -d` shows a machine's services"),
    ("", "settings", NONE),
    ("", "sftp", SHELL),
    ("", "ssh", SHELL),
    ("", "storage", NONE),
    ("", "suspend", "`updraft machine suspend` suspends machines"),
    ("", "vm", "`updraft machine` manages machines"),
    ("", "volumes", "`--rootfs-persist` keeps a machine's root over its restarts"),
    ("", "wireguard", NONE),
    ("apps", "errors", NONE),
    ("apps", "move", NONE),
    ("apps", "releases", NONE),
    ("apps", "restart", "`updraft machine restart` restarts machines"),
    ("apps", "resume", "`updraft machine start` starts machines"),
    ("apps", "suspend", "`updraft machine suspend` suspends machines"),
    ("image", "show", "`updraft machine status` shows a machine's image"),
    ("image", "update", "`updraft machine update --image` changes a machine's image"),
    ("machine", "api-proxy", NONE),
    ("machine", "clone", "`updraft machine run` with the config that `machine status -d` shows"),
    ("machine", "egress-ip", NONE),
    ("machine", "place", NONE),
    ("secrets", "keys", "docs/secrets.md has the calls of the API for secret keys"),
    ("secrets", "sync", "`updraft secrets deploy` brings secrets to machines"),
];

const NONE: &str = "";
const SHELL: &str = "`updraft machine exec --tty ID -- /bin/sh` opens a shell in a machine";

/// Commands by the names that clap knows as aliases.
const GROUPS: &[(&str, &str)] = &[
    ("app", "apps"),
    ("m", "machine"),
    ("machines", "machine"),
    ("images", "image"),
    ("hosts", "host"),
    ("secret", "secrets"),
];

/// A refusal of `group name`, if flyctl has that command.
pub(crate) fn absent(group: Option<&str>, name: &str) -> Option<CliError> {
    let group = group.unwrap_or_default();
    let group = GROUPS.iter().find(|(alias, _)| *alias == group).map_or(group, |(_, name)| name);
    let (_, _, instead) = ABSENT.iter().find(|(g, n, _)| *g == group && *n == name)?;
    let sep = if group.is_empty() { "" } else { " " };
    let error = CliError::usage(format!("`updraft {group}{sep}{name}` is not there yet"));
    let error =
        if instead.is_empty() { error } else { error.hint(format!("Meanwhile: {instead}.")) };
    Some(error.hint("docs/cli.md lists all commands, docs/api/README.md what is to come."))
}
