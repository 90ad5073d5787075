//! A client's connection, which is cut when the client ceases to read.
//!
//! Otherwise a client that asks for much and reads nothing would keep its place
//! at the machine, and both connections, for ever: an answer's body is not
//! polled, and so its own clock stands still, while bytes of it cannot be sent.

use crate::body::Silence;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Fails a write during which not one byte could be sent for `limit`.
#[derive(Debug)]
pub(crate) struct ClientIo<S> {
    stream: S,
    stuck: Silence,
}

impl<S: AsyncWrite + Unpin> ClientIo<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, stuck: Silence::new(limit) }
    }

    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let done = write(Pin::new(&mut self.stream), cx);
        if done.is_ready() {
            self.stuck.broken();
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep};

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut() {
        let (near, _far) = tokio::io::duplex(8);
        let mut io = ClientIo::new(near, LIMIT);
        io.write_all(b"12345678").await.unwrap();
        let began = Instant::now();
        let err = io.write(b"9").await.unwrap_err();
        assert_eq!((err.kind(), began.elapsed().as_secs()), (ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_slowly_or_is_owed_nothing_is_not() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut io = ClientIo::new(near, LIMIT);
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
