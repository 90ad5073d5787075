//! A byte stream that fails when its peer holds it up for too long.
//!
//! A peer that reads nothing would otherwise keep the connection, and whatever the
//! answer to it holds, without end.

use crate::Silence;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a [`PeerStream`] demands of its peer.
pub trait PeerLimits {
    /// How long a write may wait without one byte being taken.
    fn write_limit(&self) -> Duration;

    /// Called after each read with the bytes that have come, and with whether the read
    /// waits for more. Ready fails the read: the peer is too late.
    fn poll_read_limit(&mut self, _cx: &mut Context<'_>, _bytes: &[u8], _waits: bool) -> Poll<()> {
        Poll::Pending
    }
}

/// A stream whose reads and writes fail with [`ErrorKind::TimedOut`] beyond the limits.
#[derive(Debug)]
pub struct PeerStream<S, L> {
    stream: S,
    limits: L,
    /// While a write waits.
    stuck: Silence,
}

impl<S, L> PeerStream<S, L> {
    /// `stream` with limits.
    pub fn new(stream: S, limits: L) -> Self {
        Self { stream, limits, stuck: Silence::default() }
    }
}

impl<S: AsyncWrite + Unpin, L: PeerLimits> PeerStream<S, L> {
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
        self.stuck.poll(cx, self.limits.write_limit()).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin, L: PeerLimits + Unpin> AsyncRead for PeerStream<S, L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = &buffer.filled()[before..];
        match self.limits.poll_read_limit(cx, bytes, done.is_pending()) {
            Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            Poll::Pending => done,
        }
    }
}

impl<S: AsyncWrite + Unpin, L: PeerLimits + Unpin> AsyncWrite for PeerStream<S, L> {
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

    struct WriteLimit;

    impl PeerLimits for WriteLimit {
        fn write_limit(&self) -> Duration {
            LIMIT
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_cut() {
        let (near, _far) = tokio::io::duplex(8);
        let mut io = PeerStream::new(near, WriteLimit);
        io.write_all(b"12345678").await.unwrap();
        let began = Instant::now();
        let err = io.write(b"9").await.unwrap_err();
        assert_eq!((err.kind(), began.elapsed()), (ErrorKind::TimedOut, LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_slowly_or_is_owed_nothing_is_not() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut io = PeerStream::new(near, WriteLimit);
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
