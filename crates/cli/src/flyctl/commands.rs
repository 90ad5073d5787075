//! Commands of flyctl that are not here yet, and what to use meanwhile.

use crate::error::CliError;

/// Group (empty: none; several words for a group of a group), name, what to use in its place.
pub(crate) const ABSENT: &[(&str, &str, &str)] = &[
    ("", "agent", NONE),
    ("", "certs", "put a TLS proxy in front of the edge"),
    ("", "clone", "`updraft machine clone` makes a machine like another one"),
    ("", "config", "`updraft machine status -d` shows a machine's config"),
    ("", "console", SHELL),
    ("", "consul", NONE),
    ("", "curl", NONE),
    ("", "dashboard", NONE),
    ("", "deploy", "`updraft image import` and `updraft machine run` start an image"),
    ("", "dig", NONE),
    ("", "docs", "the docs are in the folder docs/"),
    ("", "domains", NONE),
    ("", "extensions", NONE),
    ("", "incidents", "`updraft platform status` shows the hosts"),
    ("", "ips", "an app answers at <app>.<domain>, see --domain of `updraft up`"),
    ("", "launch", "`updraft apps create` and `updraft machine run` start an image"),
    ("", "litefs-cloud", NONE),
    ("", "mcp", NONE),
    ("", "monitor", "`updraft status --watch` shows an app"),
    ("", "mpg", NONE),
    ("", "ping", NONE),
    ("", "postgres", NONE),
    ("", "pg", NONE),
    ("", "proxy", NONE),
    ("", "redis", NONE),
    ("", "regions", "`updraft platform regions` lists the regions"),
    ("", "registry", "`updraft image import` takes images of this machine"),
    ("", "releases", NONE),
    ("", "resume", "`updraft machine start` starts machines"),
    ("", "scale", "`updraft machine clone` adds machines, `updraft machine update` resizes them"),
    ("", "services", "`updraft machine status -d` shows a machine's services"),
    ("", "settings", NONE),
    ("", "sftp", SHELL),
    ("", "ssh", SHELL),
    ("", "storage", NONE),
    ("", "suspend", "`updraft machine suspend` suspends machines"),
    ("", "vm", "`updraft machine` manages machines"),
    ("", "wireguard", NONE),
    ("apps", "errors", "`updraft logs` shows what the app wrote"),
    ("apps", "move", "`updraft apps create --org` makes an app in another organization"),
    ("apps", "releases", NONE),
    ("apps", "resume", "`updraft machine start` starts machines"),
    ("apps", "suspend", "`updraft machine suspend` suspends machines"),
    ("auth", "docker", NONE),
    ("auth", "login", TOKEN),
    ("auth", "logout", TOKEN),
    ("auth", "signup", TOKEN),
    ("image", "show", "`updraft machine status` shows a machine's image"),
    ("image", "update", "`updraft machine update --image` changes a machine's image"),
    ("machine", "egress-ip", "a machine's packets leave by the address of its host"),
    ("orgs", "cross-network-replays", NONE),
    ("orgs", "replay-sources", NONE),
    ("secrets", "sync", "`updraft secrets deploy` brings secrets to machines"),
    ("tokens", "3p", NONE),
    (
        "tokens create",
        "litefs-cloud",
        "`updraft tokens create org` makes a token of an organization",
    ),
    ("tokens create", "wireguard", "`updraft tokens create org` makes a token of an organization"),
    ("version", "upgrade", "replace the program; `updraft up` keeps what runs"),
];

const NONE: &str = "";
const TOKEN: &str =
    "`updraft auth whoami` shows the token that is used, `updraft tokens create` makes another";
const SHELL: &str = "`updraft machine exec --tty ID -- /bin/sh` opens a shell in a machine";

/// Commands by the names that clap knows as aliases.
const GROUPS: &[(&str, &str)] = &[
    ("app", "apps"),
    ("m", "machine"),
    ("machines", "machine"),
    ("images", "image"),
    ("hosts", "host"),
    ("org", "orgs"),
    ("secret", "secrets"),
    ("token", "tokens"),
];

/// A refusal of `group name`, if flyctl has that command. The words before the name are those
/// of groups, and values of flags.
pub(crate) fn absent<'a>(before: impl Iterator<Item = &'a str>, name: &str) -> Option<CliError> {
    let canonical = |word: &'a str| {
        GROUPS.iter().find(|(alias, _)| *alias == word).map_or(word, |(_, name)| name)
    };
    let before: Vec<&str> = before.map(canonical).collect();
    let group = match before.as_slice() {
        [.., "tokens", "create"] => "tokens create",
        [.., last] => last,
        [] => "",
    };
    let (_, _, instead) = ABSENT.iter().find(|(g, n, _)| *g == group && *n == name)?;
    let sep = if group.is_empty() { "" } else { " " };
    let error = CliError::usage(format!("`updraft {group}{sep}{name}` is not there yet"));
    let error =
        if instead.is_empty() { error } else { error.hint(format!("Meanwhile: {instead}.")) };
    Some(error.hint("docs/cli.md lists all commands, docs/api/README.md what is to come."))
}
