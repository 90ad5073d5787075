//! A small certificate authority: one key, certificates for peers.

use crate::identity::{Peer, Role};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long before now a certificate begins: clocks of hosts differ.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct CertificateError {
    attempt: String,
    #[source]
    err: rcgen::Error,
}

fn failed(attempt: impl Into<String>) -> impl FnOnce(rcgen::Error) -> CertificateError {
    let attempt = attempt.into();
    move |err| CertificateError { attempt, err }
}

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// Its private key. Secret.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The only authority that the peers of a platform trust.
#[derive(Clone, Debug)]
pub struct Authority(Credentials);

impl Authority {
    /// A new authority with a key of its own.
    ///
    /// # Errors
    /// A key or certificate cannot be made.
    pub fn create(
        platform: &str,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(failed("make the authority's key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("Updraft CA of {platform}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now_ms, lifetime);
        let certificate = params.self_signed(&key).map_err(failed("sign the authority"))?;
        Ok(Self(Credentials { certificate: certificate.pem(), key: key.serialize_pem() }))
    }

    /// An authority that was made before.
    pub fn load(credentials: Credentials) -> Self {
        Self(credentials)
    }

    /// Its certificate and key.
    pub fn credentials(&self) -> &Credentials {
        &self.0
    }

    /// A certificate for a peer, with a key of its own.
    ///
    /// # Errors
    /// The authority's own certificate does not parse, or a key cannot be made.
    pub fn issue(
        &self,
        peer: &Peer,
        addresses: &[IpAddr],
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Credentials, CertificateError> {
        let own = KeyPair::from_pem(&self.0.key).map_err(failed("read the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&self.0.certificate, own)
            .map_err(failed("read the authority's certificate"))?;
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, peer.name.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let named = |text: String| text.as_str().try_into().map_err(failed(format!("name {text}")));
        params.subject_alt_names.push(SanType::DnsName(named(Peer::dns_name(&peer.name))?));
        for role in &peer.roles {
            params.subject_alt_names.push(SanType::URI(named(Peer::role_uri(*role))?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        set_validity(&mut params, now_ms, lifetime);
        let attempt = format!("sign a certificate for {}", peer.name);
        let certificate = params.signed_by(&key, &issuer).map_err(failed(attempt))?;
        Ok(Credentials { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn set_validity(params: &mut CertificateParams, now_ms: u64, lifetime: Duration) {
    let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now_ms);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lifetime).into();
}

/// Names of roles, for messages.
pub(crate) fn roles(peer: &Peer) -> String {
    let roles: Vec<String> = peer.roles.iter().map(Role::to_string).collect();
    if roles.is_empty() { "no role".into() } else { roles.join(", ") }
}
