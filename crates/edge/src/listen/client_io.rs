//! A client's connection with a deadline on what the client does.
//!
//! A client that ceases to read is cut. Otherwise one that asks for much and reads
//! nothing would keep its place at the machine, and both connections, without end: an
//! answer's body is not polled, and so its own timeout does not run, while bytes of
//! it cannot be sent.
//!
//! A client that does not send enough for the edge to distinguish HTTP/1 from HTTP/2 is
//! cut, too: hyper's deadline for a head begins only after that.

use crate::listen::connections::Connection;
use rt::{PeerLimits, PeerStream};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The stream of a client.
pub(crate) type ClientIo<S> = PeerStream<S, ClientLimits>;

/// The stream of `connection`. A write may be stuck for `write_limit`; what is needed to
/// detect the protocol has to come within `opening_limit`.
pub(crate) fn client_io<S>(
    stream: S,
    write_limit: Duration,
    opening_limit: Duration,
    connection: Arc<Connection>,
) -> ClientIo<S> {
    let deadline = Instant::now() + opening_limit;
    let opening = Some(Opening { seen: 0, deadline, timer: None, connection });
    PeerStream::new(stream, ClientLimits { write_limit, opening })
}

/// What is demanded of a client.
#[derive(Debug)]
pub(crate) struct ClientLimits {
    write_limit: Duration,
    opening: Option<Opening>,
}

impl PeerLimits for ClientLimits {
    fn write_limit(&self) -> Duration {
        self.write_limit
    }

    fn poll_read_limit(&mut self, cx: &mut Context<'_>, bytes: &[u8], waits: bool) -> Poll<()> {
        let Some(opening) = &mut self.opening else { return Poll::Pending };
        if opening.take(bytes) {
            self.opening = None;
            return Poll::Pending;
        }
        if waits { opening.poll(cx) } else { Poll::Pending }
    }
}

/// The protocol is not known yet.
#[derive(Debug)]
struct Opening {
    /// Bytes of the preface that have come.
    seen: usize,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    connection: Arc<Connection>,
}

impl Opening {
    /// Takes what has come. True once the protocol is known.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let rest = &PREFACE[self.seen..];
        let compared = bytes.len().min(rest.len());
        if bytes[..compared] != rest[..compared] {
            return true;
        }
        self.seen += compared;
        let is_http2 = self.seen == PREFACE.len();
        if is_http2 {
            self.connection.set_http2();
        }
        is_http2
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::connections::Connections;
    use std::io::ErrorKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_secs(60);

    fn client(near: DuplexStream) -> ClientIo<DuplexStream> {
        let all = Arc::new(Connections::new(9, None));
        let (place, _) = all.take([127, 0, 0, 1].into()).unwrap();
        client_io(near, LIMIT, LIMIT / 2, place.connection.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_a_deadline_for_the_start_of_its_protocol() {
        for (bytes, cut) in [
            (&b""[..], true),
            (b"P", true),
            (b"PRI * HTTP/2.0\r\n\r\nS", true),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            (b"PUT /", false),
            (b"GET / HT", false),
        ] {
            let (near, mut far) = tokio::io::duplex(64);
            let mut io = client(near);
            let began = Instant::now();
            // Byte by byte, slowly.
            let send = async {
                for byte in bytes {
                    far.write_u8(*byte).await.unwrap();
                    sleep(Duration::from_millis(100)).await;
                }
                std::future::pending().await
            };
            let read = async {
                let mut all = Vec::new();
                loop {
                    match io.read_u8().await {
                        Ok(byte) => all.push(byte),
                        Err(err) => return (err.kind(), all),
                    }
                }
            };
            let read = tokio::time::timeout(LIMIT * 9, async {
                tokio::select! {
                    read = read => read,
                    () = send => unreachable!("it never ends"),
                }
            });
            match read.await {
                Ok((kind, all)) => {
                    assert!(cut, "{bytes:?}");
                    assert_eq!((kind, &*all), (ErrorKind::TimedOut, bytes));
                    assert_eq!(began.elapsed(), LIMIT / 2);
                }
                Err(_) => assert!(!cut, "{bytes:?}"),
            }
        }
    }
}
