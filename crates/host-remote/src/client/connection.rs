//! One HTTP/2 connection to a host, made when it is needed and again once it
//! has broken.

use crate::ca::Credentials;
use crate::codec::{ChannelBody, FrameReader, MAX_FRAME};
use crate::tls::{self, TlsError};
use crate::{CONNECTION_WINDOW, DRAIN, STREAM_WINDOW};
use async_trait::async_trait;
use host_api::{CallContext, GuestStream, HostError, HostInfo};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::id::HostId;
use rt::{Backoff, Rng, Tasks};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Time for a connection to be made and checked, TLS and HTTP/2 included.
const DIAL: Duration = Duration::from_secs(3);
/// Time that a caller waits for the dial of a host whose last dial failed.
const WAIT_FOR_ABSENT: Duration = Duration::from_millis(250);
/// A host that does not answer a ping for so long is gone.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections to one host, authenticated on both sides.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// A new connection.
    async fn dial(&self) -> io::Result<Box<dyn GuestStream>>;
}

/// Dials over TCP with mutual TLS.
#[derive(Clone)]
pub struct TlsDial {
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl std::fmt::Debug for TlsDial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsDial")
            .field("address", &self.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl TlsDial {
    /// The host called `name` at `address` (`10.0.0.1:4281`).
    ///
    /// # Errors
    /// The certificates cannot be used, or the name is none.
    pub fn new(
        name: &str,
        address: &str,
        authority: &str,
        own: &Credentials,
    ) -> Result<Self, TlsError> {
        let config: Arc<ClientConfig> = tls::client(authority, own)?;
        let name = tls::server_name(name)?;
        Ok(Self { address: address.into(), name, connector: TlsConnector::from(config) })
    }
}

#[async_trait]
impl Dial for TlsDial {
    async fn dial(&self) -> io::Result<Box<dyn GuestStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        Ok(Box::new(stream))
    }
}

/// A call that got no answer.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) why: String,
    pub(super) may_have_run: bool,
}

impl Failed {
    fn before(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_have_run: false }
    }
}

/// The connection to one host. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

struct Shared {
    /// Number that the host must report.
    expected: HostId,
    dial: Arc<dyn Dial>,
    tasks: Tasks,
    rng: Rng,
    link: Mutex<Link>,
}

struct Link {
    sender: Option<SendRequest<ChannelBody>>,
    backoff: Backoff,
    /// Until then callers get the last failure, and no connection is attempted.
    rest: Option<(Instant, String)>,
    /// The dial under way. It is a task of its own: a caller that gives up
    /// does not end it for the others.
    dialling: Option<watch::Receiver<()>>,
}

fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(20), Duration::from_secs(2))
}

/// What a caller does next.
enum Next {
    Use(SendRequest<ChannelBody>),
    Fail(String),
    /// Wait for the dial; at most so long, then fail with the last failure.
    Wait(watch::Receiver<()>, Option<(Duration, String)>),
}

impl Connection {
    pub(super) fn new(expected: HostId, dial: Arc<dyn Dial>, tasks: Tasks) -> Self {
        let link = Link { sender: None, backoff: pauses(), rest: None, dialling: None };
        let (rng, link) = (Rng::from_os(), Mutex::new(link));
        Self(Arc::new(Shared { expected, dial, tasks, rng, link }))
    }

    /// Sends a request. One that never left, because the connection had ended
    /// meanwhile, is sent on a new one.
    pub(super) async fn send(
        &self,
        mut request: Request<ChannelBody>,
    ) -> Result<Response<Incoming>, Failed> {
        for last in [false, true] {
            let mut sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut err) => match err.take_message() {
                    Some(unsent) if !last => request = unsent,
                    unsent => {
                        let may_have_run = unsent.is_none();
                        return Err(Failed { why: rt::chain(err.error()), may_have_run });
                    }
                },
            }
        }
        Err(Failed::before("the connection ends as soon as it is made"))
    }

    async fn sender(&self) -> Result<SendRequest<ChannelBody>, Failed> {
        loop {
            match self.next() {
                Next::Use(sender) => return Ok(sender),
                Next::Fail(why) => return Err(Failed::before(why)),
                // The dial's end drops its side of the channel.
                Next::Wait(mut dialled, None) => drop(dialled.changed().await),
                Next::Wait(mut dialled, Some((most, why))) => {
                    let waited = tokio::time::timeout(most, dialled.changed()).await;
                    waited.map(drop).map_err(|_| Failed::before(why))?;
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut link = self.link();
        if let Some(sender) = link.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Next::Use(sender.clone());
        }
        if self.0.tasks.is_stopping() {
            return Next::Fail("this process stops".into());
        }
        let failed = link.rest.clone();
        if let Some((until, why)) = &failed
            && Instant::now() < *until
        {
            return Next::Fail(why.clone());
        }
        let dialled = match &link.dialling {
            Some(dialled) => dialled.clone(),
            None => {
                let (under_way, dialled) = watch::channel(());
                link.dialling = Some(dialled.clone());
                let own = self.clone();
                self.0.tasks.spawn_until_stop(async move {
                    own.dial().await;
                    drop(under_way);
                });
                dialled
            }
        };
        Next::Wait(dialled, failed.map(|(_, why)| (WAIT_FOR_ABSENT, why)))
    }

    /// Makes a connection and keeps it, or the failure.
    async fn dial(&self) {
        let made = tokio::time::timeout(DIAL, self.make()).await;
        let made = made.unwrap_or_else(|_| Err(format!("no connection within {DIAL:?}")));
        let mut link = self.link();
        link.dialling = None;
        match made {
            Ok(sender) => {
                (link.sender, link.backoff, link.rest) = (Some(sender), pauses(), None);
            }
            Err(why) => {
                let pause = link.backoff.pause(&self.0.rng);
                link.rest = Some((Instant::now() + pause, why));
            }
        }
    }

    /// Makes a connection. The peer must be the host whose number it is called by: two
    /// that are mixed up in the settings would each lose the other's machines.
    async fn make(&self) -> Result<SendRequest<ChannelBody>, String> {
        let mut sender = self.connect().await?;
        let (expected, found) = (self.0.expected, number(&mut sender).await?);
        if found == expected {
            return Ok(sender);
        }
        Err(format!(
            "the peer reports that it is host {found}, not host {expected}: \
             correct the numbers in the settings"
        ))
    }

    async fn connect(&self) -> Result<SendRequest<ChannelBody>, String> {
        let stream = self.0.dial.dial().await.map_err(|err| err.to_string())?;
        let mut protocol = http2::Builder::new(TokioExecutor::new());
        protocol
            .timer(TokioTimer::new())
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let made = protocol.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|err| rt::chain(&err))?;
        // Weak: a host that is not called any more ends its connection.
        let (own, stopping) = (Arc::downgrade(&self.0), self.0.tasks.stopping());
        self.0.tasks.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping => {
                    // It ends with the calls that are under way.
                    if let Some(shared) = own.upgrade() {
                        Self(shared).link().sender = None;
                    }
                    tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(err) = ended {
                tracing::debug!(error = %err, "the connection to a host ended");
            }
        });
        Ok(sender)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the host at the other end of `dial`.
pub(super) async fn find_number(dial: Arc<dyn Dial>, tasks: Tasks) -> Result<HostId, String> {
    // No number is compared with it.
    let connection = Connection::new(HostId(0), dial, tasks);
    let found = async { number(&mut connection.connect().await?).await };
    let found = tokio::time::timeout(DIAL, found).await;
    found.unwrap_or_else(|_| Err(format!("no answer within {DIAL:?}")))
}

/// Asks the peer for its number.
async fn number(sender: &mut SendRequest<ChannelBody>) -> Result<HostId, String> {
    let (request, body) =
        super::begin("info", &CallContext::control(DIAL), &()).map_err(|err| err.to_string())?;
    drop(request);
    let request = super::call("info", body).map_err(|err| err.to_string())?;
    let answer = sender.send_request(request).await.map_err(|err| rt::chain(&err))?;
    let body = super::accepted("the host", "info", answer).map_err(|err| err.to_string())?;
    let info: Result<HostInfo, HostError> = FrameReader::new(body, MAX_FRAME)
        .next()
        .await
        .map_err(|err| format!("it does not report its number: {}", rt::chain(&err)))?;
    Ok(info.map_err(|err| format!("it does not report its number: {err}"))?.host)
}
