//! Answers calls of peers for one host.

mod calls;
mod guest_streams;
mod handshakes;
mod streams;

pub(crate) use guest_streams::ConnectError;

use crate::ca::{Credentials, roles};
use crate::codec::{ChannelBody, FrameError, FrameReader};
use crate::identity::Peer;
use crate::tls::{self, TlsError};
use crate::{CONNECTION_WINDOW, DRAIN, STREAM_WINDOW};
use handshakes::{HANDSHAKE, Handshakes, Preface};
use host_api::{CallContext, GuestConnection, Host};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rt::{PeerStream, Tasks};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Connections at once: each process of the platform has one.
const MAX_CONNECTIONS: usize = 1024;
/// Calls at once on one connection.
const MAX_CALLS: u32 = 4096;
/// A peer that does not answer a ping for so long is gone.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest frame that a caller may send: a config with its files.
const MAX_REQUEST: usize = 8 * 1024 * 1024;

pub(crate) const PREFIX: &str = "/host/v1/";

type Body = Either<ChannelBody, Empty<bytes::Bytes>>;

/// The server of one host. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    host: Arc<dyn Host>,
    tasks: Tasks,
    handshakes: Arc<Handshakes>,
    places: Arc<Semaphore>,
    guests: Mutex<WaitingGuests>,
}

/// Connections out of guests that have been announced and not been fetched yet.
#[derive(Default)]
struct WaitingGuests {
    last: u64,
    waiting: HashMap<u64, GuestConnection>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// A server that answers for `host`, with tasks of `tasks`.
    pub fn new(host: Arc<dyn Host>, tasks: Tasks) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (handshakes, guests) = Default::default();
        Self(Arc::new(Inner { host, tasks, handshakes, places, guests }))
    }

    /// Accepts peers on `listener` until the tasks stop.
    ///
    /// # Errors
    /// The certificates cannot be used; then nothing is accepted.
    pub fn listen(
        &self,
        listener: TcpListener,
        authority: &str,
        own: &Credentials,
    ) -> Result<(), TlsError> {
        let config = tls::server(authority, own)?;
        let (server, acceptor) = (self.clone(), TlsAcceptor::from(config));
        self.0.tasks.spawn_until_stop(async move {
            let greet = move |stream| {
                let acceptor = acceptor.clone();
                async move { handshake(&acceptor, stream).await }
            };
            server.accept(listener, greet).await;
        });
        Ok(())
    }

    /// Accepts connections without end; `greet` finds out who the peer is.
    pub(crate) async fn accept<From, Io, Greeted>(
        &self,
        listener: From,
        greet: impl Fn(From::Stream) -> Greeted,
    ) where
        From: Listener,
        Greeted: Future<Output = Option<(Peer, Io)>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let new_pause = || rt::Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
        let (mut pause, rng) = (new_pause(), rt::Rng::from_os());
        loop {
            let (raw, source) = match listener.next().await {
                Ok(raw) => raw,
                Err(err) => {
                    tracing::warn!(error = %err, "accept a connection of a peer");
                    tokio::time::sleep(pause.pause(&rng)).await;
                    continue;
                }
            };
            pause = new_pause();
            let Some(handshake) = self.0.handshakes.begin(source) else {
                tracing::debug!(?source, "too many connections that are not a peer's yet");
                continue;
            };
            let (server, greeted) = (self.clone(), greet(raw));
            self.0.tasks.spawn(async move {
                let greeted = greeted.await;
                drop(handshake);
                if let Some((peer, stream)) = greeted {
                    server.serve_if_room(peer, stream).await;
                }
            });
        }
    }

    /// Serves a peer unless there are as many already as are served at once.
    async fn serve_if_room<Io>(&self, peer: Peer, stream: Io)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(_place) = self.0.places.clone().try_acquire_owned() else {
            tracing::warn!(peer = peer.name, "a peer is refused: {MAX_CONNECTIONS} are served");
            return;
        };
        self.serve(peer, stream).await;
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Answers the calls of one peer until it goes or the tasks stop.
    pub async fn serve<Io>(&self, peer: Peer, io: Io)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = Arc::new(peer);
        let service = service_fn(|request| {
            let (server, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(server.answer(&peer, request).await) }
        });
        let mut protocol = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        protocol
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CALLS)
            // A peer that was held up may give up all of its calls at once.
            .max_pending_accept_reset_streams(MAX_CALLS as usize)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let io = PeerStream::new(io, Preface::new(PING_EVERY + PING_TIMEOUT));
        let served = protocol.serve_connection(TokioIo::new(io), service);
        let mut served = std::pin::pin!(served);
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = self.0.tasks.stopping() => {
                served.as_mut().graceful_shutdown();
                // Calls that run longer are cut off with the connection.
                tokio::time::timeout(DRAIN, served).await.unwrap_or(Ok(()))
            }
        };
        if let Err(err) = ended {
            tracing::debug!(peer = peer.name, error = %err, "the connection of a peer ended");
        }
    }

    async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        let method = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
        if !peer.may_call(&method) {
            tracing::warn!(
                peer = peer.name,
                roles = roles(peer),
                method,
                "a peer may not call this"
            );
            return status(StatusCode::FORBIDDEN);
        }
        let mut body = FrameReader::new(request.into_body(), MAX_REQUEST);
        let context: CallContext = match body.next().await {
            Ok(context) => peer.authorized(context),
            Err(err) => return malformed(peer, &err),
        };
        match self.call(&method, context, body).await {
            Ok(Some(answer)) => Response::new(Either::Left(answer)),
            Ok(None) => status(StatusCode::NOT_FOUND),
            Err(err) => malformed(peer, &err),
        }
    }

    fn guests(&self) -> MutexGuard<'_, WaitingGuests> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections.
pub(crate) trait Listener {
    type Stream;

    /// The next connection, and the address that it comes from, if there are any.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.accept().await?;
        Ok((stream, Some(peer.ip())))
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = code;
    response
}

fn malformed(peer: &Peer, err: &FrameError) -> Response<Body> {
    tracing::warn!(peer = peer.name, error = rt::chain(err), "a call of a peer is malformed");
    status(StatusCode::BAD_REQUEST)
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<(Peer, TlsStream)> {
    // A small answer must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => {
            tracing::warn!(error = %err, "a peer was refused");
            return None;
        }
        Err(_) => return None,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = certificate.and_then(|certificate| Peer::from_certificate(certificate));
    if peer.is_none() {
        tracing::warn!("a certificate names no peer");
    }
    peer.map(|peer| (peer, stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A listener in memory: the sources of connections, in turn.
    struct Sources(Mutex<VecDeque<IpAddr>>);

    impl Listener for Sources {
        type Stream = IpAddr;

        async fn next(&self) -> io::Result<(IpAddr, Option<IpAddr>)> {
            let next = self.0.lock().unwrap().pop_front();
            match next {
                Some(source) => Ok((source, Some(source))),
                None => std::future::pending().await,
            }
        }
    }

    fn server() -> Server {
        let host = testkit::FakeHost::new(model::id::HostId(3), "local");
        Server::new(Arc::new(host), Tasks::new())
    }

    #[tokio::test]
    async fn strangers_keep_no_peer_out() {
        let [stranger, peer] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let mut sources = VecDeque::from(vec![stranger; 2 * MAX_CONNECTIONS]);
        sources.push_back(peer);
        let (greeted, has_peer) = tokio::sync::watch::channel(false);
        let greet = move |source: IpAddr| {
            let greeted = greeted.clone();
            async move {
                // A stranger shows no certificate.
                if source == stranger {
                    std::future::pending::<()>().await;
                }
                greeted.send_replace(true);
                None::<(Peer, tokio::io::DuplexStream)>
            }
        };
        let server = server();
        let mut has_peer = has_peer;
        let accepting = server.accept(Sources(Mutex::new(sources)), greet);
        let greeting = async {
            has_peer.wait_for(|greeted| *greeted).await.unwrap();
        };
        tokio::select! {
            () = accepting => panic!("it accepts without end"),
            greeted = tokio::time::timeout(Duration::from_secs(30), greeting) => {
                greeted.expect("the peer is greeted");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_no_preface_is_cut() {
        let peer = Peer { name: "api".into(), roles: [crate::Role::Control].into() };
        let (_peer, stream) = tokio::io::duplex(64);
        let served = tokio::time::timeout(2 * HANDSHAKE, server().serve(peer, stream)).await;
        assert!(served.is_ok(), "it is served without end");
    }
}
