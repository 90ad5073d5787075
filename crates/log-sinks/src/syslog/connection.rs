//! A connection to a receiver of syslog, which knows what the receiver's kernel has acknowledged.

use crate::settings::SyslogTarget;
use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use worker::ports::PortError;

/// Longest time for a connection to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the kernel is asked for what is not acknowledged yet.
const POLL: Duration = Duration::from_millis(5);

/// A connection.
pub(super) struct Connection {
    stream: Stream,
    address: String,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) async fn open(
        target: &SyslogTarget,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, PortError> {
        let address = format!("{}:{}", target.host, target.port);
        let attempt = || format!("connect to {address}");
        let connecting = async {
            let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = tls else { return Ok(Stream::Tcp(tcp)) };
            let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
            Ok(Stream::Tls(Box::new(tls.connect(name, tcp).await?)))
        };
        let stream = tokio::time::timeout(CONNECT, connecting).await;
        let late = |_| PortError::plain(format!("{} takes more than {CONNECT:?}", attempt()));
        let stream = stream.map_err(late)?;
        let stream = stream.map_err(|err: io::Error| PortError::new(attempt(), err))?;
        Ok(Self { stream, address })
    }

    /// Sends bytes; returns once the receiver's kernel has acknowledged all of them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        let sent = self.write(bytes).await;
        sent.map_err(|err| PortError::new(format!("send log lines to {}", self.address), err))
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => write_all(stream, bytes).await?,
            Stream::Tls(stream) => write_all(stream, bytes).await?,
        }
        loop {
            let left = unacknowledged(self.tcp())?;
            tokio::time::sleep(POLL).await;
            // A reset empties the queue as well.
            if self.closed() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The receiver has ended it.
    pub(super) fn closed(&mut self) -> bool {
        match &mut self.stream {
            Stream::Tcp(stream) => is_closed(stream),
            Stream::Tls(stream) => is_closed(stream),
        }
    }
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads what is there: nothing, as receivers of syslog send nothing, or the end.
fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut buffer = [0; 256];
    for _ in 0..64 {
        match stream.read(&mut buffer).now_or_never() {
            None => return false,
            Some(Ok(1..)) => {}
            Some(Ok(0) | Err(_)) => return true,
        }
    }
    // A receiver that sends without an end uses another protocol.
    true
}

/// Bytes that have been sent or wait for that, and are not acknowledged
/// (<https://man7.org/linux/man-pages/man7/tcp.7.html>, SIOCOUTQ).
fn unacknowledged(stream: &TcpStream) -> io::Result<u32> {
    /// `SIOCOUTQ`, which is `TIOCOUTQ`.
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: this request of a TCP socket writes one `int`.
    let getter = unsafe { rustix::ioctl::Getter::<SIOCOUTQ, i32>::new() };
    // SAFETY: it is the request of the getter, on a descriptor that is open for this call.
    let left = unsafe { rustix::ioctl::ioctl(stream.as_fd(), getter) }?;
    Ok(u32::try_from(left).unwrap_or(0))
}
