//! The certificate authority of Fly.io's host names. It is trusted by clients, so it can certify
//! these names and nothing else (name constraints, RFC 5280, 4.2.1.10). It has nothing to do with
//! the authority by which hosts know each other.

use super::FLY_NAMES;
use camino::Utf8Path;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long before now a certificate begins: clocks of clients differ.
const BACKDATED: Duration = DAY;
const LIFETIME: Duration = DAY.saturating_mul(3650);
/// An authority that ends earlier is replaced when the daemon starts.
const LEAST_LEFT: Duration = DAY.saturating_mul(365);

/// Why the authority or a certificate of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum AuthorityError {
    /// Its file.
    #[error("{attempt} {path}")]
    File {
        attempt: &'static str,
        path: String,
        #[source]
        err: io::Error,
    },
    /// Others may read its key.
    #[error(
        "{path} may be read by others than its owner: its mode is {mode:o}; run `chmod 600 {path}`"
    )]
    Mode { path: String, mode: u32 },
    /// A key or certificate that cannot be made or read.
    #[error("{attempt}")]
    Certificate {
        attempt: &'static str,
        #[source]
        err: rcgen::Error,
    },
    /// The certificate in its file.
    #[error("read the certificate in {0}; delete the file to have another authority made")]
    Unreadable(String),
}

/// The authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    ends_ms: u64,
}

/// A certificate with its key.
pub(super) struct Issued {
    /// DER.
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
}

impl Authority {
    /// That of a file; it is made if there is none, or if it ends within a year.
    pub(super) fn open(path: &Utf8Path, now_ms: u64) -> Result<Self, AuthorityError> {
        let file = |attempt, err| AuthorityError::File { attempt, path: path.to_string(), err };
        match std::fs::read_to_string(path) {
            Ok(pem) => {
                let about = std::fs::metadata(path).map_err(|err| file("read", err))?;
                let mode = about.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(AuthorityError::Mode { path: path.to_string(), mode });
                }
                let known = Self::load(&pem, path)?;
                if known.ends_ms > now_ms + millis(LEAST_LEFT) {
                    return Ok(known);
                }
                tracing::warn!(
                    "the certificate authority of Fly.io's host names ends soon and is replaced: \
                     clients need the new certificate (`updraft flyctl-env --hosts`)"
                );
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(file("read", err)),
        }
        let pem = create(now_ms)?;
        rt::fs::write_atomic(path.as_std_path(), pem.as_bytes(), 0o600)
            .map_err(|err| file("write", err))?;
        Self::load(&pem, path)
    }

    /// From its key and certificate in one text: they cannot be of two authorities.
    fn load(pem: &str, path: &Utf8Path) -> Result<Self, AuthorityError> {
        let unreadable = || AuthorityError::Unreadable(path.to_string());
        let key = KeyPair::from_pem(pem).map_err(failed("read the authority's key"))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| unreadable())?;
        let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        let begin = pem.find("-----BEGIN CERTIFICATE-----").ok_or_else(unreadable)?;
        let certificate = pem[begin..].to_owned();
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(failed("read the authority's certificate"))?;
        Ok(Self { issuer, certificate, ends_ms: ends.saturating_mul(1000) })
    }

    /// Its certificate, PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for the names, with a key of its own. It ends with the authority at the
    /// latest.
    pub(super) fn issue(&self, now_ms: u64, life: Duration) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, FLY_NAMES[0]);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in FLY_NAMES {
            let name = name.try_into().map_err(failed("name the certificate"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        set_validity(&mut params, now_ms, (now_ms + millis(life)).min(self.ends_ms));
        let signed = params.signed_by(&key, &self.issuer).map_err(failed("sign a certificate"))?;
        Ok(Issued { certificate: signed.der().clone(), key })
    }
}

/// Key and certificate of a new authority, PEM.
fn create(now_ms: u64) -> Result<String, AuthorityError> {
    let key = KeyPair::generate().map_err(failed("make the authority's key"))?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Updraft CA of api.fly.io and api.machines.dev on this host");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = FLY_NAMES.map(|name| GeneralSubtree::DnsName(name.to_owned()));
    // Permitted names bound names only: addresses have to be excluded.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.to_vec(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
                Ipv4Addr::UNSPECIFIED.into(),
                0,
            )),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
                Ipv6Addr::UNSPECIFIED.into(),
                0,
            )),
        ],
    });
    set_validity(&mut params, now_ms, now_ms + millis(LIFETIME));
    let certificate = params.self_signed(&key).map_err(failed("sign the authority"))?;
    Ok(key.serialize_pem() + &certificate.pem())
}

fn failed(attempt: &'static str) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    move |err| AuthorityError::Certificate { attempt, err }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn set_validity(params: &mut CertificateParams, now_ms: u64, end_ms: u64) {
    let at = |ms: u64| -> SystemTime { UNIX_EPOCH + Duration::from_millis(ms) };
    params.not_before = at(now_ms.saturating_sub(millis(BACKDATED))).into();
    params.not_after = at(end_ms).into();
}
