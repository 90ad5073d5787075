//! TLS to an app. Its certificate is verified by the host's root certificates, or not at
//! all if the check does not want that.

use crate::checks::spec::TlsOptions;
use host_api::GuestStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;

/// Makes a connection one of TLS.
pub(crate) async fn connect(
    stream: Box<dyn GuestStream>,
    options: &TlsOptions,
    address: Ipv4Addr,
) -> Result<Box<dyn GuestStream>, String> {
    let name = match &options.server_name {
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| format!("tls_server_name {name:?} is no host name"))?,
        None => ServerName::IpAddress(IpAddr::V4(address).into()),
    };
    let config = match options.skip_verify {
        true => unverified(),
        false => verified().await,
    }?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map(|stream| Box::new(stream) as Box<dyn GuestStream>).map_err(|err| {
        format!("TLS with {address}: {err} (tls_skip_verify accepts any certificate)")
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// By the root certificates of the host, which are read once.
async fn verified() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return config.clone();
    }
    let made = tokio::task::spawn_blocking(|| CONFIG.get_or_init(with_host_roots).clone()).await;
    made.unwrap_or_else(|err| Err(format!("read the root certificates: {err}")))
}

fn with_host_roots() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // Files that cannot be read leave fewer roots, and certificates that do not verify.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|err| format!("set up TLS: {err}"))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn unverified() -> Result<Arc<ClientConfig>, String> {
    let verifier = Arc::new(AnyCertificate(provider()));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|err| format!("set up TLS: {err}"))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Accepts every certificate; the peer still has to hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
