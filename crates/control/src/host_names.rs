//! The API under host names of Fly.io, for programs whose host names are compiled in.

use crate::Error;
use std::net::SocketAddr;

/// Whether the API is served under those names, and how clients come to it.
#[derive(Clone, Debug)]
pub enum HostNames {
    /// It is not.
    Off {
        /// Why, as a part of a sentence.
        reason: String,
    },
    /// It is, over TLS.
    Served {
        /// Where.
        address: SocketAddr,
        /// The names.
        names: Vec<String>,
        /// Certificate of the authority that certifies the names, PEM.
        ca_certificate: String,
    },
}

impl Default for HostNames {
    fn default() -> Self {
        Self::Off { reason: "the setting `flyctl.host_names` is off".into() }
    }
}

impl HostNames {
    /// As clients are given it.
    ///
    /// # Errors
    /// The API is not served so, and why.
    pub(crate) fn show(&self) -> Result<wire::platform::HostNames, Error> {
        match self {
            Self::Served { address, names, ca_certificate } => Ok(wire::platform::HostNames {
                address: address.ip(),
                port: address.port(),
                names: names.clone(),
                ca_certificate: ca_certificate.clone(),
            }),
            Self::Off { reason } => {
                let why = format!("the API is not served under the host names of Fly.io: {reason}");
                Err(Error::not_found(why).hint(
                    "an operator starts the daemon with --fly-host-names=true; docs/flyctl.md has \
                     what that means. flyctl itself needs no more than `updraft flyctl-env`",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_with_their_authority_or_refused_with_a_reason() {
        let refused = HostNames::default().show().unwrap_err();
        assert_eq!(refused.kind, crate::Kind::NotFound);
        assert!(refused.message.ends_with("the setting `flyctl.host_names` is off"));
        assert!(refused.hint.unwrap().contains("--fly-host-names=true"));
        let served = HostNames::Served {
            address: "127.0.0.43:443".parse().unwrap(),
            names: vec!["api.fly.io".into()],
            ca_certificate: "PEM".into(),
        };
        let shown = serde_json::to_value(served.show().unwrap()).unwrap();
        let wanted = serde_json::json!({ "address": "127.0.0.43", "port": 443,
            "names": ["api.fly.io"], "ca_certificate": "PEM" });
        assert_eq!(shown, wanted);
    }
}
