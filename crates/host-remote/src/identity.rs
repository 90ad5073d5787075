//! The identity of a peer: name and roles in its certificate.

use host_api::{CallContext, Caller, Source};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Ends every peer's DNS name; nothing public ends so (RFC 6762 reserves it not,
/// ICANN has set `.internal` aside for private use).
const DOMAIN: &str = ".host.updraft.internal";
const ROLE: &str = "updraft:role:";

/// A part of the platform that a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The API and the reconcilers.
    Control,
    /// A host of machines.
    Worker,
    /// The proxy.
    Edge,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Control, Self::Worker, Self::Edge];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Worker => "worker",
            Self::Edge => "edge",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is no role: it is control, worker or edge"))
    }
}

/// A peer: its name and what it may act as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name, one DNS label.
    pub name: String,
    /// What it runs.
    pub roles: BTreeSet<Role>,
}

impl Peer {
    /// The name under which its certificate is checked.
    pub(crate) fn dns_name(name: &str) -> String {
        format!("{name}{DOMAIN}")
    }

    pub(crate) fn role_uri(role: Role) -> String {
        format!("{ROLE}{role}")
    }

    /// Reads a certificate in DER. `None` if it names no peer. The
    /// signature has been checked by TLS before.
    pub(crate) fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let (mut name, mut roles) = (None, BTreeSet::new());
        for general in &names.value.general_names {
            match general {
                GeneralName::DNSName(dns) => {
                    name = name.or_else(|| dns.strip_suffix(DOMAIN).map(str::to_owned));
                }
                // A role of a later version gives no right here.
                GeneralName::URI(uri) => {
                    roles.extend(uri.strip_prefix(ROLE).and_then(|role| role.parse::<Role>().ok()));
                }
                _ => {}
            }
        }
        name.map(|name| Self { name, roles })
    }

    /// Whether it may call `method` of a host.
    pub(crate) fn may_call(&self, method: &str) -> bool {
        const TRAFFIC: [&str; 8] =
            ["append", "connect", "drained", "info", "routes", "stop_idle", "suspend_idle", "wake"];
        self.roles.contains(&Role::Control)
            || self.roles.contains(&Role::Edge) && TRAFFIC.contains(&method)
    }

    /// The context of its call: an edge can only act as an edge, whatever it sends.
    pub(crate) fn authorized(&self, context: CallContext) -> CallContext {
        if self.roles.contains(&Role::Control) {
            return context;
        }
        CallContext { caller: Caller::Edge, source: Source::Proxy, ..context }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_decide_what_may_be_called() {
        let peer =
            |roles: &[Role]| Peer { name: "a".into(), roles: roles.iter().copied().collect() };
        for (roles, method, may) in [
            (&[Role::Control][..], "destroy", true),
            (&[Role::Edge], "wake", true),
            (&[Role::Edge], "put_secrets", false),
            (&[Role::Edge], "destroy", false),
            (&[Role::Edge], "exec", false),
            (&[Role::Edge], "logs", false),
            (&[Role::Worker], "wake", false),
            (&[], "info", false),
        ] {
            assert_eq!(peer(roles).may_call(method), may, "{roles:?} {method}");
        }
    }
}
