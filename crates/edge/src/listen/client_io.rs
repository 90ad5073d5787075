//! A client's connection with a deadline on what the client does.
//!
//! A client that ceases to read is cut. Otherwise one that asks for much and reads
//! nothing would keep its place at the machine, and both connections, for ever: an
//! answer's body is not polled, and so its own timeout does not run, while bytes of
//! it cannot be sent.
//!
//! A client that does not send enough for the edge to tell HTTP/1 from HTTP/2 is
//! cut, too: hyper's deadline for a head begins only after that.

use crate::http::silence::Silence;
use crate::listen::connections::Connection;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Fails a write during which not one byte could be sent for a time, and a read
/// while the protocol is not known after a time.
#[derive(Debug)]
pub(crate) struct ClientIo<S> {
    stream: S,
    stuck: Silence,
    opening: Option<Opening>,
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

impl<S: AsyncWrite + Unpin> ClientIo<S> {
    /// The stream of `connection`. A write may be stuck for `write_limit`; what is
    /// needed to tell the protocol has to come within `opening_limit`.
    pub(crate) fn new(
        stream: S,
        write_limit: Duration,
        opening_limit: Duration,
        connection: Arc<Connection>,
    ) -> Self {
        let deadline = Instant::now() + opening_limit;
        let opening = Some(Opening { seen: 0, deadline, timer: None, connection });
        Self { stream, stuck: Silence::new(write_limit), opening }
    }

    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let done = write(Pin::new(&mut self.stream), cx);
        if done.is_ready() {
            self.stuck.end();
            return done;
        }
        self.stuck.poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(opening) = &mut self.opening else { return done };
        let known = opening.take(&buffer.filled()[before..]);
        if known {
            self.opening = None;
            return done;
        }
        match done {
            Poll::Pending => opening.poll(cx).map(|()| Err(ErrorKind::TimedOut.into())),
            done => done,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watched(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watched(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A TCP stream has nothing of its own to flush: this is always ready, and
    // must not pass for progress.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::connections::Connections;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_secs(60);

    fn client(near: DuplexStream) -> ClientIo<DuplexStream> {
        let all = Arc::new(Connections::new(9, None));
        let (place, _) = all.take([127, 0, 0, 1].into()).unwrap();
        ClientIo::new(near, LIMIT, LIMIT / 2, place.connection.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_a_time_to_say_which_protocol_it_speaks() {
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

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut() {
        let (near, _far) = tokio::io::duplex(8);
        let mut io = client(near);
        io.write_all(b"12345678").await.unwrap();
        let began = Instant::now();
        let err = io.write(b"9").await.unwrap_err();
        assert_eq!((err.kind(), began.elapsed().as_secs()), (ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_slowly_or_is_owed_nothing_is_not() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut io = client(near);
        let read = async {
            for _ in 0..9 {
                sleep(LIMIT * 3 / 4).await;
                far.read_u8().await.unwrap();
            }
        };
        tokio::join!(async { io.write_all(&[7; 9]).await.unwrap() }, read);
        sleep(LIMIT * 9).await;
        io.write_all(&[7]).await.unwrap();
    }
}
