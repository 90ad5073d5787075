//! Where the API is and which token opens it: flags, environment, file.
//!
//! The daemon writes the file at its first start, so that the command line on
//! the same machine works at once. Fly's variables name their cloud unless they
//! name our address too, so a token of theirs is not sent to just any API.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Default address of the API.
pub const DEFAULT_API: &str = "http://127.0.0.1:4280";

/// Content of `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Base URL of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Token for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Reading failed.
    #[error("read config {path}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// It is not what we write.
    #[error("parse config {path}")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: Box<toml::de::Error>,
    },
    /// Writing failed.
    #[error("write config {path}")]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
}

/// Path of the file: in `$UPDRAFT_CONFIG_DIR`, else in `$HOME/.updraft`.
pub fn path(vars: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| vars.get(name).filter(|value| !value.is_empty());
    let dir = match set("UPDRAFT_CONFIG_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(set("HOME")?).join(".updraft"),
    };
    Some(dir.join("config.toml"))
}

/// Reads the file; `None` if there is none.
///
/// # Errors
/// It cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Option<ConfigFile>, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(ConfigError::Read { path: path.into(), err }),
    };
    let parsed = toml::from_str(&text).map(Some);
    parsed.map_err(|err| ConfigError::Parse { path: path.into(), err: Box::new(err) })
}

/// Replaces the file, readable by its owner only; makes its directory.
///
/// # Errors
/// It cannot be written; the former file is then untouched.
pub fn write(path: &Path, config: &ConfigFile) -> Result<(), ConfigError> {
    let failed = |err| ConfigError::Write { path: path.into(), err };
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    let text = toml::to_string(config).map_err(|err| failed(io::Error::other(err)))?;
    rt::fs::write_atomic(path, text.as_bytes(), 0o600).map_err(failed)
}

/// Where to send calls and with which token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Base URL.
    pub api: String,
    /// Token, if there is one for that URL.
    pub token: Option<String>,
}

/// Flags that override it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessFlags<'a> {
    /// `--api`.
    pub api: Option<&'a str>,
    /// `--access-token`.
    pub token: Option<&'a str>,
}

/// Decides by precedence: flag, environment, file, default.
///
/// The file's token belongs to the file's API and is never sent to another one.
/// Fly's tokens go to the API that Fly's variables name; else, for want of any
/// other token, to one on this machine.
pub fn access(
    flags: AccessFlags<'_>,
    vars: &BTreeMap<String, String>,
    file: &ConfigFile,
) -> Access {
    let (flag_api, flag_token) = (flags.api.map(str::to_owned), flags.token.map(str::to_owned));
    let first = |names: &[&str]| {
        names.iter().filter_map(|name| vars.get(*name)).find(|value| !value.is_empty()).cloned()
    };
    let file_api = file.api.as_deref().unwrap_or(DEFAULT_API);
    let ours = flag_api.or_else(|| first(&["UPDRAFT_API"]));
    let flys = match ours {
        None => first(&["FLY_FLAPS_BASE_URL", "FLY_API_HOSTNAME"]),
        Some(_) => None,
    };
    let by_fly = flys.is_some();
    let api = as_url(&ours.or(flys).unwrap_or_else(|| file_api.to_owned()));
    let fly_token = |may: bool| first(&["FLY_ACCESS_TOKEN", "FLY_API_TOKEN"]).filter(|_| may);
    let token = flag_token
        .or_else(|| first(&["UPDRAFT_TOKEN"]))
        .or_else(|| fly_token(by_fly))
        .or_else(|| file.token.clone().filter(|_| same_place(&api, file_api)))
        .or_else(|| fly_token(is_here(&api)));
    Access { api, token }
}

/// A URL as it is; `ADDRESS:PORT`, as the daemon's own setting has it, as a URL.
fn as_url(text: &str) -> String {
    let host_and_port = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok() && !text.contains('/')).then_some(())
    };
    match host_and_port(text) {
        Some(()) if !text.contains("://") => format!("http://{text}"),
        _ => text.to_owned(),
    }
}

/// The URL is one of this machine's loopback interface.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split(']').next() == Some("::1");
    }
    let name = host.split(':').next().unwrap_or_default();
    let address = name.parse::<std::net::Ipv4Addr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn same_place(a: &str, b: &str) -> bool {
    let plain = |url: &str| url.trim_end_matches('/').replace("//localhost:", "//127.0.0.1:");
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    type Flags<'a> = (Option<&'a str>, Option<&'a str>);
    type Case<'a> =
        (&'a str, Flags<'a>, &'a [(&'a str, &'a str)], &'a ConfigFile, &'a str, &'a str);

    #[test]
    fn precedence_of_api_and_token() {
        let file = ConfigFile { api: Some("http://f:1".into()), token: Some("file".into()) };
        let none = ConfigFile::default();
        let cases: &[Case<'_>] = &[
            ("nothing at all", (None, None), &[], &none, DEFAULT_API, "-"),
            ("file", (None, None), &[], &file, "http://f:1", "file"),
            (
                "empty counts as unset",
                (None, None),
                &[("UPDRAFT_API", "")],
                &file,
                "http://f:1",
                "file",
            ),
            ("file's token stays home", (Some("http://x:1"), None), &[], &file, "http://x:1", "-"),
            (
                "a slash is no other place",
                (Some("http://f:1/"), None),
                &[],
                &file,
                "http://f:1/",
                "file",
            ),
            (
                "fly's variables",
                (None, None),
                &[
                    ("FLY_API_HOSTNAME", "http://h:1"),
                    ("FLY_API_TOKEN", "b"),
                    ("FLY_ACCESS_TOKEN", "a"),
                ],
                &file,
                "http://h:1",
                "a",
            ),
            (
                "flaps before hostname",
                (None, None),
                &[("FLY_API_HOSTNAME", "http://h:1"), ("FLY_FLAPS_BASE_URL", "http://b:1")],
                &file,
                "http://b:1",
                "-",
            ),
            (
                "ours before fly's",
                (None, None),
                &[
                    ("UPDRAFT_API", "http://u:1"),
                    ("FLY_FLAPS_BASE_URL", "http://b:1"),
                    ("UPDRAFT_TOKEN", "u"),
                    ("FLY_ACCESS_TOKEN", "a"),
                ],
                &file,
                "http://u:1",
                "u",
            ),
            (
                "fly's cloud token does not hide the file's",
                (None, None),
                &[("FLY_API_TOKEN", "cloud")],
                &file,
                "http://f:1",
                "file",
            ),
            (
                "fly's cloud token is not for another's API",
                (None, None),
                &[("FLY_API_TOKEN", "cloud"), ("UPDRAFT_API", "https://u.example")],
                &none,
                "https://u.example",
                "-",
            ),
            (
                "a flag's address is not fly's",
                (Some("https://127.0.0.1@x.example/"), None),
                &[("FLY_ACCESS_TOKEN", "cloud"), ("FLY_FLAPS_BASE_URL", "http://b:1")],
                &none,
                "https://127.0.0.1@x.example/",
                "-",
            ),
            (
                "for want of another one on this machine",
                (None, None),
                &[("FLY_API_TOKEN", "cloud")],
                &none,
                DEFAULT_API,
                "cloud",
            ),
            (
                "this machine's IPv6",
                (Some("http://[::1]:1"), None),
                &[("FLY_API_TOKEN", "cloud")],
                &none,
                "http://[::1]:1",
                "cloud",
            ),
            (
                "an address as the daemon takes it",
                (None, None),
                &[("UPDRAFT_API", "127.0.0.1:4280"), ("UPDRAFT_TOKEN", "u")],
                &none,
                "http://127.0.0.1:4280",
                "u",
            ),
            ("an address is the file's URL", (Some("f:1"), None), &[], &file, "http://f:1", "file"),
            (
                "flags before all",
                (Some("http://x:1"), Some("t")),
                &[("UPDRAFT_API", "http://u:1"), ("UPDRAFT_TOKEN", "u")],
                &file,
                "http://x:1",
                "t",
            ),
        ];
        for (name, flags, set, file, api, token) in cases {
            let flags = AccessFlags { api: flags.0, token: flags.1 };
            let got = access(flags, &vars(set), file);
            assert_eq!(
                (got.api.as_str(), got.token.as_deref().unwrap_or("-")),
                (*api, *token),
                "{name}"
            );
        }
    }

    #[test]
    fn the_file_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let vars = vars(&[("HOME", dir.path().to_str().unwrap())]);
        let path = path(&vars).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        let config = ConfigFile { api: Some(DEFAULT_API.into()), token: Some("secret".into()) };
        write(&path, &config).unwrap();
        assert_eq!(read(&path).unwrap(), Some(config));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "tokn = 1").unwrap();
        let text = rt::chain(&read(&path).unwrap_err());
        assert!(text.contains("config.toml") && text.contains("tokn"), "{text}");
    }
}
