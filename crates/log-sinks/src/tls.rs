//! TLS to a receiver of syslog (RFC 5425).

use camino::Utf8Path;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use worker::ports::PortError;

/// Trusts the certificates of a file, or those of the host.
pub(crate) fn connector(ca_file: Option<&Utf8Path>) -> Result<TlsConnector, PortError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => add_file(&mut roots, path)?,
        // Files that cannot be read leave fewer roots, and certificates that do not verify.
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(found);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|err| PortError::new("set up TLS", err))?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_file(roots: &mut RootCertStore, path: &Utf8Path) -> Result<(), PortError> {
    let attempt = || format!("read certificates of {path}");
    let pem = std::fs::read(path).map_err(|err| PortError::new(attempt(), err))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|err| PortError::new(attempt(), err))?;
        roots.add(certificate).map_err(|err| PortError::new(attempt(), err))?;
    }
    match roots.is_empty() {
        true => Err(PortError::plain(format!("{path} has no certificate"))),
        false => Ok(()),
    }
}
