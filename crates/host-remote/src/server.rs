//! Answers calls of peers for one host.

mod calls;
mod guest_streams;
mod streams;

pub(crate) use guest_streams::ConnectError;

use crate::ca::{Credentials, roles};
use crate::codec::{ChannelBody, FrameError, FrameReader};
use crate::identity::Peer;
use crate::tls::{self, TlsError};
use crate::{CONNECTION_WINDOW, DRAIN, STREAM_WINDOW};
use host_api::{CallContext, GuestConnection, Host};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rt::Tasks;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
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
/// Time for TLS and for the head of HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);
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
        Self(Arc::new(Inner { host, tasks, places, guests: Mutex::default() }))
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
            // The semaphore is never closed.
            let Ok(place) = self.0.places.clone().acquire_owned().await else { return };
            let raw = match listener.next().await {
                Ok(raw) => raw,
                Err(err) => {
                    tracing::warn!(error = %err, "accept a connection of a peer");
                    tokio::time::sleep(pause.pause(&rng)).await;
                    continue;
                }
            };
            pause = new_pause();
            let (server, greeted) = (self.clone(), greet(raw));
            self.0.tasks.spawn(async move {
                if let Some((peer, stream)) = greeted.await {
                    server.serve(peer, stream).await;
                }
                drop(place);
            });
        }
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
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
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

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
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
