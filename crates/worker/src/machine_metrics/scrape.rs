//! Asks an app for its metrics (`metrics` of the config).

use crate::checks::probe::tls;
use crate::checks::spec::TlsOptions;
use crate::context::HostContext;
use bytes::Bytes;
use host_api::GuestStream;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use wire::machines::MetricsEndpoint;

/// Most bytes of an answer; a longer one is dropped entirely
/// (<https://fly.io/docs/monitoring/metrics/>).
const MAX_ANSWER: usize = 16 << 20;
/// Time for one app to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The answer of an app; `None` if there is none that can be used.
pub(super) async fn scrape(
    host: &HostContext,
    address: Ipv4Addr,
    endpoint: &MetricsEndpoint,
) -> Option<String> {
    let to = SocketAddrV4::new(address, endpoint.port?);
    let asked = async {
        let stream = host.connector.connect(to).await.ok()?;
        let stream = match endpoint.https {
            // The certificate of an app on its own host proves nothing.
            Some(true) => {
                let options = TlsOptions { skip_verify: true, server_name: None };
                tls::connect(stream, &options, address).await.ok()?
            }
            _ => stream,
        };
        get(stream, endpoint.path.as_deref().unwrap_or("/metrics"), to).await
    };
    let bytes = tokio::time::timeout(TIMEOUT, asked).await.ok()??;
    String::from_utf8(bytes.into()).ok()
}

async fn get(stream: Box<dyn GuestStream>, path: &str, to: SocketAddrV4) -> Option<Bytes> {
    let request = Request::get(path)
        .header("host", to.to_string())
        .header("connection", "close")
        .header("accept", "text/plain; version=0.0.4")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut connection = std::pin::pin!(connection);
    let answer = async {
        let response = sender.send_request(request).await.ok()?;
        let body = response.status().is_success().then(|| response.into_body())?;
        let body = Limited::new(body, MAX_ANSWER).collect().await.ok()?;
        Some(body.to_bytes())
    };
    let mut answer = std::pin::pin!(answer);
    let done = tokio::select! {
        biased;
        done = &mut answer => Some(done),
        // The peer has closed it; the answer may have been read already.
        _ = &mut connection => None,
    };
    match done {
        Some(done) => done,
        None => answer.await,
    }
}
