//! `updraft flyctl-env --hosts`: programs whose host names are compiled in.

use super::script;
use crate::config;
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Exit, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use wire::platform::HostNames;

/// Where systems keep the certificates of authorities that programs trust, the first that is there
/// (as <https://go.dev/src/crypto/x509/root_linux.go> looks for them).
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Variables that replace the authorities that a program trusts.
const REPLACING: [&str; 3] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];
/// One that adds to them. <https://nodejs.org/api/cli.html#node_extra_ca_certsfile>
const ADDING: &str = "NODE_EXTRA_CA_CERTS";
/// The port that programs dial.
const HTTPS: u16 = 443;

/// How programs are led to this platform.
#[derive(Debug, Serialize)]
pub(super) struct Hosts {
    /// Line for `/etc/hosts`.
    hosts: String,
    address: IpAddr,
    port: u16,
    names: Vec<String>,
    /// File with the certificate of the authority.
    ca_certificate: PathBuf,
    /// File with that and the authorities of the system.
    ca_bundle: PathBuf,
    /// Environment variables.
    variables: BTreeMap<&'static str, String>,
}

/// Asks the platform, and saves the certificate beside the command line's config.
pub(super) async fn prepare(cx: &mut Context<'_>, token: Option<String>) -> Result<Hosts> {
    let served = cx.client()?.host_names().await;
    let served = served.context(|| "ask for the host names of the platform".into())?;
    let dir = config::path(&cx.env.vars).map(|path| path.with_file_name("host-names"));
    let dir = dir.ok_or_else(|| {
        CliError::usage("There is no directory for the certificate")
            .hint("Set HOME or UPDRAFT_CONFIG_DIR.")
    })?;
    let dir = cx.env.cwd.join(dir);
    let (certificate, bundle) = (dir.join("ca.pem"), dir.join("bundle.pem"));
    let system = system(&cx.env.vars, &bundle);
    if system.is_none() {
        cx.ui().status(
            "This system's certificate authorities were not found: with these variables programs \
             trust no other host than those below.",
        );
    }
    let all = format!("{}{}", system.unwrap_or_default(), served.ca_certificate);
    save(&dir, &certificate, &served.ca_certificate)?;
    save(&dir, &bundle, &all)?;
    let hosts = describe(served, certificate, bundle, token);
    if hosts.port != HTTPS {
        let port = hosts.port;
        cx.ui().status(&format!("Programs dial port {HTTPS}, and the platform listens on {port}."));
    }
    cx.ui().status(&format!(
        "Put this line into /etc/hosts, and remove it to reach Fly.io again:\n  {}",
        hosts.hosts
    ));
    Ok(hosts)
}

fn describe(
    served: HostNames,
    certificate: PathBuf,
    bundle: PathBuf,
    token: Option<String>,
) -> Hosts {
    let HostNames { address, port, names, .. } = served;
    let mut variables: BTreeMap<_, _> =
        REPLACING.map(|name| (name, bundle.display().to_string())).into();
    variables.insert(ADDING, certificate.display().to_string());
    variables.extend(token.map(|token| ("FLY_API_TOKEN", token)));
    let hosts = format!("{address} {}", names.join(" "));
    Hosts { hosts, address, port, names, ca_certificate: certificate, ca_bundle: bundle, variables }
}

impl Hosts {
    /// Lines for any POSIX shell.
    pub(super) fn script(&self) -> String {
        let variables: Vec<_> =
            self.variables.iter().map(|(name, value)| (*name, value.clone())).collect();
        format!("# Line for /etc/hosts: {}\n{}", self.hosts, script(&variables))
    }
}

/// The certificates that programs trust so far: those that the environment names, or the system's.
fn system(vars: &BTreeMap<String, String>, own: &Path) -> Option<String> {
    let named = vars.get("SSL_CERT_FILE").map(Path::new).filter(|path| *path != own);
    let known = SYSTEM.iter().map(Path::new);
    let text = named.into_iter().chain(known).find_map(|path| fs::read_to_string(path).ok())?;
    Some(if text.ends_with('\n') { text } else { text + "\n" })
}

fn save(dir: &Path, path: &Path, text: &str) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| rt::fs::write_atomic(path, text.as_bytes(), 0o644)).map_err(|err| {
        CliError::new(Exit::Failed, format!("Cannot write {}", path.display())).because_of(&err)
    })
}
