//! TLS 1.3 between peers: both sides show a certificate of the platform's CA.

use crate::ca::Credentials;
use crate::identity::Peer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;

/// Protocol name of HTTP/2 (RFC 9113, 3.2).
const ALPN: &[u8] = b"h2";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Text that is no certificate or key in PEM.
    #[error("read {what}")]
    Pem {
        /// Which text.
        what: &'static str,
        /// Why.
        #[source]
        err: rustls::pki_types::pem::Error,
    },
    /// Certificate, key and authority do not fit together.
    #[error("use the certificate of this host")]
    Unfit(#[source] rustls::Error),
    /// The authority cannot check the certificates of clients.
    #[error("use the certificate of the authority")]
    Authority(#[source] rustls::server::VerifierBuilderError),
    /// Not one DNS label.
    #[error("{0:?} cannot be the name of a host: it is one DNS label")]
    Name(String),
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.collect::<Result<_, _>>().map_err(|err| TlsError::Pem { what, err })
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    key.map_err(|err| TlsError::Pem { what: "the private key", err })
}

fn roots(authority: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority, "the certificate of the authority")? {
        roots.add(certificate).map_err(TlsError::Unfit)?;
    }
    Ok(Arc::new(roots))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The server's side: a client without a certificate of `authority` is refused.
pub(crate) fn server(authority: &str, own: &Credentials) -> Result<Arc<ServerConfig>, TlsError> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider());
    let clients = clients.build().map_err(TlsError::Authority)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unfit)?
        .with_client_cert_verifier(clients);
    let chain = certificates(&own.certificate, "the certificate of this host")?;
    let mut config = config.with_single_cert(chain, key(&own.key)?).map_err(TlsError::Unfit)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The client's side.
pub(crate) fn client(authority: &str, own: &Credentials) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unfit)?
        .with_root_certificates(roots(authority)?);
    let chain = certificates(&own.certificate, "the certificate of this host")?;
    let mut config =
        config.with_client_auth_cert(chain, key(&own.key)?).map_err(TlsError::Unfit)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The name under which a client expects a host.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bad = || TlsError::Name(host.chars().take(80).collect());
    if host.contains('.') {
        return Err(bad());
    }
    ServerName::try_from(Peer::dns_name(host)).map_err(|_| bad())
}
