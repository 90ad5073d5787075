//! One HTTP/2 connection to a host, made when it is needed and again once it
//! has broken.

use crate::ca::Credentials;
use crate::codec::ChannelBody;
use crate::tls::{self, TlsError};
use async_trait::async_trait;
use host_api::GuestStream;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rt::{Backoff, Rng, Tasks};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Time for a connection to be made, TLS and HTTP/2 included.
const DIAL: Duration = Duration::from_secs(5);
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

pub(super) struct Connection {
    dial: Arc<dyn Dial>,
    tasks: Tasks,
    rng: Rng,
    /// Held while a connection is made, so that many callers make one.
    link: Mutex<Link>,
}

struct Link {
    sender: Option<SendRequest<ChannelBody>>,
    backoff: Backoff,
    /// Until then callers get the last failure, and no connection is attempted.
    rest: Option<(Instant, String)>,
}

fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(20), Duration::from_secs(2))
}

impl Connection {
    pub(super) fn new(dial: Arc<dyn Dial>, tasks: Tasks) -> Self {
        let link = Mutex::new(Link { sender: None, backoff: pauses(), rest: None });
        Self { dial, tasks, rng: Rng::from_os(), link }
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
        let mut link = self.link.lock().await;
        if let Some(sender) = link.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        if let Some((until, why)) = link.rest.as_ref().filter(|(until, _)| Instant::now() < *until)
        {
            let _ = until;
            return Err(Failed::before(why.clone()));
        }
        let made = tokio::time::timeout(DIAL, self.make()).await;
        match made.unwrap_or_else(|_| Err(format!("no connection within {DIAL:?}"))) {
            Ok(sender) => {
                *link = Link { sender: Some(sender.clone()), backoff: pauses(), rest: None };
                Ok(sender)
            }
            Err(why) => {
                let pause = link.backoff.pause(&self.rng);
                link.rest = Some((Instant::now() + pause, why.clone()));
                Err(Failed::before(why))
            }
        }
    }

    async fn make(&self) -> Result<SendRequest<ChannelBody>, String> {
        let stream = self.dial.dial().await.map_err(|err| err.to_string())?;
        let mut protocol = http2::Builder::new(TokioExecutor::new());
        protocol
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let made = protocol.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|err| rt::chain(&err))?;
        self.tasks.spawn_until_stop(async move {
            if let Err(err) = connection.await {
                tracing::debug!(error = %err, "the connection to a host ended");
            }
        });
        Ok(sender)
    }
}
