//! A client's connection to the API, which is cut off when the client stops
//! reading: otherwise a client that asks for much and reads nothing would keep its
//! place without end.

use control::http_api::Connection;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time without progress of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteLimits {
    /// For a client that has shown no token.
    pub(super) stranger: Duration,
    /// For one that has: a terminal or a pager may be paused for a while.
    pub(super) with_token: Duration,
}

/// Fails a write during which not one byte could be sent for the limit.
pub(super) struct ClientIo<S> {
    stream: S,
    connection: Connection,
    limits: WriteLimits,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> ClientIo<S> {
    pub(super) fn new(stream: S, connection: Connection, limits: WriteLimits) -> Self {
        Self { stream, connection, limits, stuck: None }
    }

    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let done = write(Pin::new(&mut self.stream), cx);
        if done.is_ready() {
            self.stuck = None;
            return done;
        }
        let WriteLimits { stranger, with_token } = self.limits;
        let limit = if self.connection.has_shown_token() { with_token } else { stranger };
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(limit)));
        stuck.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
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

    // A TCP stream has nothing of its own to flush: this is always ready, and is
    // no progress.
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
    use tokio::time::Instant;

    const LIMITS: WriteLimits =
        WriteLimits { stranger: Duration::from_secs(30), with_token: Duration::from_secs(600) };

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off_sooner_without_a_token() {
        for (shown, limit) in [(false, LIMITS.stranger), (true, LIMITS.with_token)] {
            let (near, _far) = tokio::io::duplex(16);
            let connection = Connection::default();
            if shown {
                connection.token_shown();
            }
            let begun = Instant::now();
            let mut io = ClientIo::new(near, connection, LIMITS);
            let failed = io.write_all(&[0; 17]).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::TimedOut);
            assert_eq!(begun.elapsed().as_secs(), limit.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_cut_off() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut io = ClientIo::new(near, Connection::default(), LIMITS);
        let write = async { io.write_all(&[0; 160]).await };
        let read = async {
            for _ in 0..10 {
                sleep(Duration::from_secs(20)).await;
                far.read_exact(&mut [0; 16]).await.unwrap();
            }
        };
        assert!(tokio::join!(write, read).0.is_ok());
    }
}
