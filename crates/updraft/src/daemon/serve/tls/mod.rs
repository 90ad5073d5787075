//! The TLS listener of `listen.tunnel`. Clients of Fly.io dial port 443 of an address, for
//! two reasons:
//!
//! - Tunnels of flyctl ([`endpoint`]): a WebSocket, whatever name or address the client gives.
//! - The API under host names of Fly.io, if `flyctl.host_names` is on: for programs whose host names
//!   are compiled in. The name in the TLS handshake (SNI) decides. Only for these names there is a
//!   certificate that a client can verify ([`certificates`]), of an authority that is made for them
//!   alone ([`authority`]).
//!
//! Every connection has a place among the listener's own. One of a tunnel never shows a token, so
//! that the oldest is cut off for the next when all are taken.

mod authority;
mod certificates;
mod endpoint;

use super::places::{Place, Places};
use super::{LIMITS, Limits, connection, next, prepare};
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
pub(in crate::daemon) use certificates::{Certificates, TlsProblem};
use rt::Tasks;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The host names of Fly.io that programs have compiled in: those of its GraphQL API and of its
/// Machines API. <https://fly.io/docs/machines/api/working-with-machines-api/>
pub(in crate::daemon) const FLY_NAMES: [&str; 2] = ["api.fly.io", "api.machines.dev"];

/// Time of a TLS handshake, and of the head of a tunnel's request.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Whether a host name is one of [`FLY_NAMES`].
fn is_fly_name(name: &str) -> bool {
    FLY_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Accepts tunnels and, if there is an `api`, requests under [`FLY_NAMES`], until the tasks stop.
pub(in crate::daemon) fn serve(
    listener: TcpListener,
    certificates: Certificates,
    api: Option<Router>,
    tasks: &Tasks,
) -> Result<(), TlsProblem> {
    let acceptor = TlsAcceptor::from(certificates.config()?);
    let api = api.map(|api| api.layer(from_fn(only_fly_names)));
    accept(listener, Front { acceptor, api, limits: LIMITS, handshake: HANDSHAKE }, tasks);
    Ok(())
}

/// What a connection meets.
#[derive(Clone)]
struct Front {
    acceptor: TlsAcceptor,
    /// The API under [`FLY_NAMES`].
    api: Option<Router>,
    limits: Limits,
    handshake: Duration,
}

fn accept(listener: TcpListener, front: Front, tasks: &Tasks) {
    let connections = tasks.clone();
    let places = Places::new(front.limits.connections, front.limits.kept);
    tasks.spawn_until_stop(async move {
        loop {
            let stream = next(&listener).await;
            let place = places.take().await;
            let (front, tasks) = (front.clone(), connections.clone());
            connections.spawn(async move { front.meet(stream, &place, &tasks).await });
        }
    });
}

impl Front {
    async fn meet(self, stream: TcpStream, place: &Place, tasks: &Tasks) {
        prepare(&stream);
        let peer = stream.peer_addr().ok();
        let shaken = tokio::time::timeout(self.handshake, self.acceptor.accept(stream));
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = place.cut_off.cancelled() => return,
            () = tasks.stopping() => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(err)) => {
                tracing::trace!(error = %err, "a TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::trace!("a TLS handshake took too long");
                return;
            }
        };
        let name = stream.get_ref().1.server_name();
        match self.api.filter(|_| name.is_some_and(is_fly_name)) {
            Some(api) => connection((stream, peer), api, place, self.limits, tasks).await,
            None => endpoint::serve(stream, place, self.handshake, tasks).await,
        }
    }
}

/// A connection under one of the names carries requests for these names only (RFC 9110, 15.5.20).
async fn only_fly_names(request: Request, next: Next) -> Response {
    let in_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().host().or(in_header).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if is_fly_name(name) {
        return next.run(request).await;
    }
    let text = format!("this connection is for {}\n", FLY_NAMES.join(" and "));
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests;
