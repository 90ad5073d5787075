//! A local listener that passes requests on to the API, with the token of this client.
//!
//! Everything streams, so nothing is held in memory. Connections, heads and the wait for a head
//! are bounded; how long an answer may take is up to the API.

mod guard;

use bytes::Bytes;
use client::{Client, Error, Forwarded};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rt::Tasks;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::machines::ErrorBody;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Most bytes of a request's head.
const HEAD: usize = 64 * 1024;
/// Longest wait for a head, also on a connection that is kept open.
const HEAD_WAIT: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted, such as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What the connections have in common.
#[derive(Clone)]
struct Proxy {
    client: Client,
    local: SocketAddr,
    tasks: Tasks,
}

/// Serves connections until it is dropped; those that are open end with `tasks`.
pub(crate) async fn serve(
    listener: TcpListener,
    client: Client,
    tasks: Tasks,
) -> std::io::Result<Infallible> {
    let proxy = Proxy { client, local: listener.local_addr()?, tasks };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = Arc::new(place.map_err(std::io::Error::other)?);
        match listener.accept().await {
            Ok((stream, _)) => {
                proxy.tasks.spawn_until_stop(connection(stream, proxy.clone(), place));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn connection(stream: TcpStream, proxy: Proxy, place: Arc<OwnedSemaphorePermit>) {
    // Small answers must not wait for acknowledgements; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD);
    let service = service_fn(|request| {
        let (proxy, place) = (proxy.clone(), Arc::clone(&place));
        async move { Ok::<_, Infallible>(answer(request, proxy, place).await) }
    });
    let served = protocol.serve_connection(TokioIo::new(stream), service).with_upgrades();
    // A client that leaves, or that sends what is not HTTP, is its own affair.
    let _ = served.await;
}

async fn answer(
    mut request: Request<Incoming>,
    proxy: Proxy,
    place: Arc<OwnedSemaphorePermit>,
) -> Response<Body> {
    let (method, uri) = (request.method(), request.uri());
    if let Err(refusal) = guard::check(method, uri, request.headers(), proxy.local) {
        let hint = format!("Use http://{} in programs of this machine.", proxy.local);
        return refuse(refusal.status, refusal.why, hint);
    }
    let upgrades = request.headers().contains_key(UPGRADE);
    let upgrade = upgrades.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    match (proxy.client.forward(head, body).await, upgrade) {
        (Ok(Forwarded::Answer(answer)), _) => {
            answer.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        (Ok(Forwarded::Upgraded { head, stream }), Some(upgrade)) => {
            proxy.tasks.spawn_until_stop(tunnel(upgrade, stream, place));
            head.map(|()| empty())
        }
        (Ok(Forwarded::Upgraded { .. }), None) => {
            let why = "the API changed the protocol, which was not asked for".to_owned();
            refuse(StatusCode::BAD_GATEWAY, why, "Is this an Updraft API?".to_owned())
        }
        (Err(err), _) => failure(&err),
    }
}

/// Passes bytes in both directions until both have ended. It has a place of its own, since the
/// connection's task ends with the upgrade.
async fn tunnel(
    upgrade: OnUpgrade,
    mut api: impl AsyncRead + AsyncWrite + Unpin,
    place: Arc<OwnedSemaphorePermit>,
) {
    if let Ok(local) = upgrade.await {
        // Either side may leave at any time.
        let _ = copy_bidirectional(&mut TokioIo::new(local), &mut api).await;
    }
    drop(place);
}

fn failure(err: &Error) -> Response<Body> {
    let status = match err {
        Error::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let why = rt::chain(err);
    refuse(status, why, "Is the platform running? `updraft doctor` checks a host.".to_owned())
}

fn refuse(status: StatusCode, error: String, hint: String) -> Response<Body> {
    let body = ErrorBody { hint: Some(hint), ..ErrorBody::unknown(error) };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut answer = Response::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
