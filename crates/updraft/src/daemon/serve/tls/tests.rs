//! Clients of the listener, over real sockets and TLS.

use super::certificates::{LIFETIME, RENEWED};
use super::*;
use axum::routing::get;
use camino::{Utf8Path, Utf8PathBuf};
use rt::Clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const DAY: Duration = Duration::from_secs(24 * 3600);
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: 127.0.0.43\r\nconnection: Upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A listener with a directory of its own.
struct World {
    dir: tempfile::TempDir,
    clock: Clock,
    tasks: Tasks,
    addr: SocketAddr,
    /// Of the authority.
    ca: Option<CertificateDer<'static>>,
    /// Of tunnels.
    own: CertificateDer<'static>,
}

fn file(dir: &tempfile::TempDir) -> Utf8PathBuf {
    Utf8Path::from_path(dir.path()).unwrap().join("ca.pem")
}

async fn world(names: bool, handshake: Duration) -> World {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let clock = Clock::manual(1_700_000_000_000_000_000);
    let path = file(&dir);
    let certificates = Certificates::open(names.then_some(&*path), &clock).unwrap();
    let ca = certificates.authority().map(pem_of);
    let own = certificates.tunnels();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(certificates.config().unwrap());
    let router = Router::new().route("/v1/apps", get(async || "apps"));
    let api = names.then(|| router.layer(from_fn(only_fly_names)));
    accept(listener, Front { acceptor, api, limits: LIMITS, handshake }, &tasks);
    World { dir, clock, tasks, addr, ca, own }
}

fn pem_of(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[derive(Debug)]
struct AtClock(Clock);

impl TimeProvider for AtClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now_ms())))
    }
}

impl World {
    /// A connection of a client that trusts `root` and no other.
    async fn dial(
        &self,
        name: &str,
        root: Option<&CertificateDer<'static>>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        if let Some(root) = root {
            roots.add(root.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(AtClock(self.clock.clone()));
        let config = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn get(&self, name: &str, host: &str) -> String {
        let stream = self.dial(name, self.ca.as_ref()).await.unwrap();
        let head = format!("GET /v1/apps HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        ask(stream, &head).await
    }
}

async fn ask(mut stream: TlsStream<TcpStream>, head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // An end without `close_notify` is an end, too.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn the_api_is_served_under_the_names_and_no_other() {
    let w = world(true, HANDSHAKE).await;
    for name in ["api.fly.io", "api.machines.dev", "API.Fly.io"] {
        let answer = w.get(name, &format!("{name}:443")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("apps"), "{answer}");
    }
    let misdirected = w.get("api.fly.io", "example.com").await;
    assert!(misdirected.starts_with("HTTP/1.1 421"), "{misdirected}");
    // No certificate that the client trusts is shown for another name.
    for name in ["example.com", "fly.io", "x.api.fly.io"] {
        let refused = w.dial(name, w.ca.as_ref()).await.unwrap_err();
        assert!(refused.to_string().contains("UnknownIssuer"), "{name}: {refused}");
    }
    // Nor does a tunnel's connection reach the API.
    let tunnel = w.dial("tunnel.updraft.internal", Some(&w.own)).await.unwrap();
    let head = "GET /v1/apps HTTP/1.1\r\nhost: api.fly.io\r\n\r\n";
    let answer = ask(tunnel, head).await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    w.tasks.stop();
}

#[tokio::test]
async fn without_the_names_there_are_tunnels_only() {
    let w = world(false, HANDSHAKE).await;
    assert!(w.ca.is_none() && !file(&w.dir).exists());
    assert!(w.dial("api.fly.io", Some(&w.own)).await.is_err());
    w.tasks.stop();
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends() {
    let w = world(true, HANDSHAKE).await;
    let dial = async || shown(&w.dial("api.fly.io", w.ca.as_ref()).await.unwrap());
    let first = dial().await;
    w.clock.advance(LIFETIME - RENEWED);
    assert_eq!(dial().await, first);
    w.clock.advance(DAY);
    let second = dial().await;
    assert_ne!(second, first);
    // Also after a long time without a client.
    w.clock.advance(LIFETIME * 3);
    assert_ne!(dial().await, second);
    w.tasks.stop();
}

#[test]
fn an_authority_is_kept_privately_and_replaced_before_it_ends() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (file(&dir), Clock::manual(1_700_000_000_000_000_000));
    let open = || Certificates::open(Some(&path), &clock);
    let authority = || open().unwrap().authority().unwrap().to_owned();
    let first = authority();
    assert_eq!(first.matches("BEGIN").count(), 1, "never the key");
    assert!(first.starts_with("-----BEGIN CERTIFICATE-----"));
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!((authority(), mode()), (first.clone(), 0o600));
    clock.advance(DAY * 3650 - DAY * 364);
    assert_ne!(authority(), first);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(rt::chain(&open().unwrap_err()).contains("chmod 600"));
    std::fs::remove_file(&path).unwrap();
    rt::fs::write_atomic(path.as_std_path(), b"nothing", 0o600).unwrap();
    assert!(open().is_err());
}

/// What has the authority's key, the key of a stolen file for example, certifies.
#[tokio::test]
async fn the_authority_can_certify_the_names_only() {
    use rustls::client::WebPkiServerVerifier;
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (file(&dir), Clock::manual(1_700_000_000_000_000_000));
    let certificates = Certificates::open(Some(&path), &clock).unwrap();
    let pem = std::fs::read_to_string(&path).unwrap();
    let key = rcgen::KeyPair::from_pem(&pem).unwrap();
    let authority = pem_of(certificates.authority().unwrap());
    let issuer = rcgen::Issuer::from_ca_cert_der(&authority, key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
    let verifier = verifier.build().unwrap();
    for (name, fits) in [("api.fly.io", true), ("example.com", false), ("127.0.0.1", false)] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &issuer).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(clock.now_ms()));
        let server = ServerName::try_from(name).unwrap();
        use rustls::client::danger::ServerCertVerifier;
        let verified = verifier.verify_server_cert(signed.der(), &[], &server, &[], now);
        assert_eq!(verified.is_ok(), fits, "{name}: {verified:?}");
    }
}

#[tokio::test]
async fn a_tunnel_is_accepted_discarded_and_closed_at_a_stop() {
    let w = world(true, HANDSHAKE).await;
    let mut tunnel = w.dial("tunnel.updraft.internal", Some(&w.own)).await.unwrap();
    tunnel.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tunnel.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let lower = head.to_lowercase();
    for line in ["\r\nconnection: upgrade\r\n", "\r\nupgrade: websocket\r\n"] {
        assert!(lower.contains(line), "{head}");
    }
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // The magic of the client, masked, as one text frame.
    tunnel.write_all(b"\x81\x84\0\0\0\0\x2f\xac\xed\x77").await.unwrap();
    w.tasks.stop();
    let mut rest = Vec::new();
    let _ = tunnel.read_to_end(&mut rest).await;
    assert_eq!(&rest[..4], b"\x88\x12\x03\xe9", "a close frame: {rest:?}");
    assert!(w.tasks.shutdown(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn a_client_without_handshake_or_upgrade_is_closed() {
    let w = world(true, Duration::from_millis(200)).await;
    let mut silent = TcpStream::connect(w.addr).await.unwrap();
    let mut text = Vec::new();
    let _ = silent.read_to_end(&mut text).await;
    assert!(text.is_empty());
    let slow = w.dial("tunnel.updraft.internal", Some(&w.own)).await.unwrap();
    assert_eq!(ask(slow, "GET / HTTP/1.1\r\nhost:").await, "");
    w.tasks.stop();
}
