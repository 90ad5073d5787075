//! The certificates that are shown in a TLS handshake.

use super::authority::{Authority, AuthorityError};
use super::is_fly_name;
use camino::Utf8Path;
use rt::Clock;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Life of a certificate for Fly.io's host names.
pub(super) const LIFETIME: Duration = DAY.saturating_mul(90);
/// Once less of it is left, the next handshake has another one made.
pub(super) const RENEWED: Duration = DAY.saturating_mul(30);
/// The name in the certificate of tunnels, whose clients do not verify it: WireGuard does
/// that. <https://www.wireguard.com/protocol/>
const TUNNEL: &str = "tunnel.updraft.internal";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum TlsProblem {
    /// The authority.
    #[error("use the certificate authority of Fly.io's host names")]
    Authority(#[source] AuthorityError),
    /// The certificate of tunnels.
    #[error("make the certificate of tunnels")]
    Own(#[source] rcgen::Error),
    /// A certificate that TLS cannot use.
    #[error("use a certificate")]
    Unfit(#[source] rustls::Error),
}

/// The certificates of the listener.
#[derive(Debug)]
pub(in crate::daemon) struct Certificates {
    /// Of tunnels, signed by itself.
    own: Arc<CertifiedKey>,
    /// Of the host names, if the API is served under them.
    names: Option<Names>,
}

impl Certificates {
    /// For tunnels, and for Fly.io's host names if there is a file for their authority.
    pub(in crate::daemon) fn open(
        authority: Option<&Utf8Path>,
        clock: &Clock,
    ) -> Result<Self, TlsProblem> {
        let names = authority.map(|path| Names::open(path, clock)).transpose()?;
        Ok(Self { own: Arc::new(own()?), names })
    }

    /// Certificate of the authority of the host names, PEM.
    pub(in crate::daemon) fn authority(&self) -> Option<&str> {
        self.names.as_ref().map(|names| names.authority.certificate())
    }

    /// The certificate of tunnels.
    #[cfg(test)]
    pub(super) fn tunnels(&self) -> CertificateDer<'static> {
        self.own.cert[0].clone()
    }

    pub(super) fn config(self) -> Result<Arc<ServerConfig>, TlsProblem> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsProblem::Unfit)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(self));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().is_some_and(is_fly_name);
        let names = self.names.as_ref().filter(|_| named);
        Some(names.map_or_else(|| self.own.clone(), Names::current))
    }
}

/// The certificate of the host names, renewed by itself.
struct Names {
    authority: Authority,
    clock: Clock,
    current: Mutex<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    issued_ms: u64,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    fn open(path: &Utf8Path, clock: &Clock) -> Result<Self, TlsProblem> {
        let now_ms = clock.now_ms();
        let authority = Authority::open(path, now_ms).map_err(TlsProblem::Authority)?;
        let current = Mutex::new(issue(&authority, now_ms)?);
        Ok(Self { authority, clock: clock.clone(), current })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now_ms = self.clock.now_ms();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let age = Duration::from_millis(now_ms.saturating_sub(current.issued_ms));
        // Also if the clock was set back.
        if age > LIFETIME - RENEWED || now_ms < current.issued_ms {
            match issue(&self.authority, now_ms) {
                Ok(new) => *current = new,
                Err(err) => {
                    let why = rt::chain(&err);
                    tracing::error!(error = why, "cannot renew the certificate of host names");
                }
            }
        }
        current.key.clone()
    }
}

fn issue(authority: &Authority, now_ms: u64) -> Result<Current, TlsProblem> {
    let issued = authority.issue(now_ms, LIFETIME).map_err(TlsProblem::Authority)?;
    let key = certified(issued.certificate, &issued.key)?;
    Ok(Current { key: Arc::new(key), issued_ms: now_ms })
}

fn own() -> Result<CertifiedKey, TlsProblem> {
    let made = rcgen::generate_simple_self_signed(vec![TUNNEL.to_owned()]);
    let made = made.map_err(TlsProblem::Own)?;
    certified(made.cert.der().clone(), &made.signing_key)
}

fn certified(
    certificate: CertificateDer<'static>,
    key: &rcgen::KeyPair,
) -> Result<CertifiedKey, TlsProblem> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    CertifiedKey::from_der(vec![certificate], key, &provider()).map_err(TlsProblem::Unfit)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
