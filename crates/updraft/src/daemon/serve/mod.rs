//! The API's listener: the API itself, `/healthz` and `/metrics` ([`metrics`]); who gets a place
//! ([`places`]) and who is cut off because it does not read ([`client_io`]). Beside it the TLS
//! listener of flyctl's tunnels and of Fly.io's host names ([`tls`]).

mod client_io;
mod metrics;
mod places;
pub(super) mod tls;
pub(super) mod tunnel;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use client_io::{WriteLimits, client_io};
use control::http_api::Peer;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub(super) use metrics::Metrics;
use places::{Place, Places};
use rt::{Health, Tasks};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Pause after an accept that failed for want of file descriptors or memory.
const SHORTAGE: Duration = Duration::from_millis(200);

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time. Further ones wait in the kernel's queue until one
    /// ends. A WebSocket no longer counts: it has shown a token.
    connections: usize,
    /// Those of them that are kept for clients that have shown a token.
    kept: usize,
    /// Time for the head of a request, from the end of the one before.
    head: Duration,
    /// Time without progress of a write.
    write: WriteLimits,
}

const LIMITS: Limits = Limits {
    connections: 1024,
    kept: 64,
    head: Duration::from_secs(10),
    write: WriteLimits { stranger: Duration::from_secs(30), with_token: Duration::from_secs(600) },
};
/// A client whose machine is gone is noticed after a few probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves `api`, which may be empty, until the tasks stop. The first answer is given
/// when everything is ready; from then on `/healthz` reports what does not work.
pub(super) fn serve(
    listener: TcpListener,
    api: Router,
    metrics: Arc<Metrics>,
    health: Health,
    tasks: &Tasks,
) {
    let router = api
        .route("/healthz", get(async move || healthz(&health)))
        .route("/metrics", get(async move |headers: HeaderMap| metrics.answer(&headers).await));
    accept(listener, router, LIMITS, tasks);
}

/// 200 `ok`, or 503 with a line for each part that has a problem.
fn healthz(health: &Health) -> Response {
    let problems = health.problems();
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String =
        problems.iter().map(|(part, problem)| format!("{part}: {problem}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

fn accept(listener: TcpListener, router: Router, limits: Limits, tasks: &Tasks) {
    let connections = tasks.clone();
    let places = Places::new(limits.connections, limits.kept);
    tasks.spawn_until_stop(async move {
        loop {
            let stream = next(&listener).await;
            let place = places.take().await;
            let (router, tasks) = (router.clone(), connections.clone());
            connections.spawn(async move {
                prepare(&stream);
                let peer = stream.peer_addr().ok();
                connection((stream, peer), router, &place, limits, &tasks).await;
            });
        }
    });
}

async fn next(listener: &TcpListener) -> TcpStream {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client's own doing.
            Err(err)
                if matches!(
                    err.kind(),
                    ConnectionAborted | ConnectionRefused | ConnectionReset
                ) => {}
            Err(err) => {
                tracing::error!(error = %err, "cannot accept a connection to the API");
                tokio::time::sleep(SHORTAGE).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Small answers must not wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    keep_alive(stream);
}

/// Answers requests of one client; once the tasks stop, only the one under way.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    (stream, peer): (S, Option<SocketAddr>),
    router: Router,
    place: &Place,
    limits: Limits,
    tasks: &Tasks,
) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let api = TowerToHyperService::new(router);
    let shown = place.connection.clone();
    let peer = peer.map(Peer);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(shown.clone());
        peer.map(|peer| request.extensions_mut().insert(peer));
        api.call(request)
    });
    let stream = client_io(stream, place.connection.clone(), limits.write);
    let served = protocol.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = place.cut_off.cancelled() => return,
        () = tasks.stopping() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(err) = ended {
        tracing::trace!(error = %err, "a connection to the API ended");
    }
}

/// Lets the kernel find out that a client is gone, for connections on which
/// nothing is sent for long, such as those of followed logs.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let set = || {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 3)?;
        sockopt::set_tcp_keepcnt(stream, 3)
    };
    if let Err(err) = set() {
        tracing::debug!(error = %err, "set the keepalive of a connection to the API");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::MetricsAccess;
    use control::http_api::Connection;
    use prometheus_client::registry::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn health_and_metrics_are_served_without_the_api() {
        let (tasks, health) = (Tasks::new(), Health::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let metrics = Metrics::new(Registry::default(), None, None, MetricsAccess::Open);
        serve(listener, Router::new(), Arc::new(metrics), health, &tasks);
        for (path, status) in [("/healthz", "200"), ("/metrics", "200"), ("/v1/apps", "404")] {
            let ask = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let answer = rest(send(addr, &ask).await).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
        tasks.stop();
    }

    async fn start(limits: Limits, router: Router, tasks: &Tasks) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        accept(listener, router, limits, tasks);
        addr
    }

    async fn send(addr: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn held(hold: &Arc<Notify>) -> Router {
        let hold = hold.clone();
        Router::new().route("/ok", get(async || "fine")).route(
            "/held",
            get(async move || {
                hold.notified().await;
                "held"
            }),
        )
    }

    const OK: &str = "GET /ok HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const HELD: &str = "GET /held HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn who_never_ends_a_head_is_cut_and_a_slow_answer_is_not() {
        let (tasks, hold) = (Tasks::new(), Arc::new(Notify::new()));
        let limits = Limits { connections: 8, kept: 0, head: Duration::from_millis(50), ..LIMITS };
        let addr = start(limits, held(&hold), &tasks).await;
        let waiting = send(addr, HELD).await;
        let slow = send(addr, "GET /ok HTTP/1.1\r\nhost:").await;
        let silent = send(addr, "").await;
        assert!(!rest(slow).await.contains("fine"));
        assert_eq!(rest(silent).await, "");
        // The limit has passed by now, and is about heads only.
        hold.notify_one();
        assert!(rest(waiting).await.ends_with("held"));
        tasks.stop();
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_its_turn() {
        let (tasks, hold) = (Tasks::new(), Arc::new(Notify::new()));
        let limits = Limits { connections: 1, kept: 0, ..LIMITS };
        let entered = Arc::new(Notify::new());
        let (inside, gate) = (entered.clone(), hold.clone());
        let router = Router::new().route("/ok", get(async || "fine")).route(
            "/held",
            get(async move |axum::Extension(connection): axum::Extension<Connection>| {
                connection.token_shown();
                inside.notify_one();
                gate.notified().await;
                "held"
            }),
        );
        let addr = start(limits, router, &tasks).await;
        let first = send(addr, HELD).await;
        entered.notified().await;
        // The place is of a client with a token, which is not cut off for others.
        let mut second = send(addr, OK).await;
        let early = second.read_u8();
        assert!(tokio::time::timeout(Duration::from_millis(100), early).await.is_err());
        hold.notify_one();
        assert!(rest(first).await.ends_with("held"));
        assert!(rest(second).await.ends_with("fine"));
        tasks.stop();
    }

    #[tokio::test]
    async fn strangers_do_not_keep_a_client_out() {
        let (tasks, hold) = (Tasks::new(), Arc::new(Notify::new()));
        let limits = Limits { connections: 8, kept: 4, head: Duration::from_secs(600), ..LIMITS };
        let addr = start(limits, held(&hold), &tasks).await;
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(send(addr, "GET /ok HTTP/1.1\r\n").await);
        }
        let answer = tokio::time::timeout(Duration::from_secs(30), rest(send(addr, OK).await));
        assert!(answer.await.expect("there is a place").ends_with("fine"));
        // The oldest have been cut off.
        assert_eq!(rest(silent.remove(0)).await, "");
        tasks.stop();
    }

    #[tokio::test]
    async fn a_stop_lets_the_answer_under_way_end() {
        let (tasks, hold) = (Tasks::new(), Arc::new(Notify::new()));
        let entered = Arc::new(Notify::new());
        let (inside, gate) = (entered.clone(), hold.clone());
        let router = Router::new().route(
            "/held",
            get(async move || {
                inside.notify_one();
                gate.notified().await;
                "held"
            }),
        );
        let addr = start(LIMITS, router, &tasks).await;
        let request = send(addr, HELD).await;
        let idle = send(addr, "").await;
        entered.notified().await;
        tasks.stop();
        // An idle one ends at once, or is not even accepted any more.
        let mut idle = idle;
        let _ = idle.read(&mut [0]).await;
        hold.notify_one();
        assert!(rest(request).await.ends_with("held"));
        assert!(tasks.shutdown(Duration::from_secs(30)).await);
    }
}
