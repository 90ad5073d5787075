//! A stream to a machine that does not fail when its peer stops reading, and
//! notices whether the peer has sent anything.
//!
//! An app may answer an upload early and close. hyper would then report the
//! failed write and lose the answer that is already on its way; so writes after
//! the first failure vanish, and what counts is what can still be read.

use host_api::GuestStream;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

/// The app has sent something since this was last cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received(Arc<AtomicBool>);

impl Received {
    pub(crate) fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A stream to a machine.
pub(crate) struct UpstreamStream {
    stream: Box<dyn GuestStream>,
    received: Received,
    broken: bool,
    /// Given back with the stream, which a tunnel keeps beyond its HTTP connection.
    _permit: OwnedSemaphorePermit,
}

impl UpstreamStream {
    pub(crate) fn new(
        stream: Box<dyn GuestStream>,
        received: Received,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream, received, broken: false, _permit: permit }
    }

    fn forgive<T>(&mut self, done: Poll<io::Result<T>>, instead: T) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(err))
                if matches!(err.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                self.broken = true;
                Poll::Ready(Ok(instead))
            }
            done => done,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.received.0.store(true, Relaxed);
        }
        done
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(buf.len()));
        }
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.forgive(done, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.broken {
            return Poll::Ready(Ok(all));
        }
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.forgive(done, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.forgive(done, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.forgive(done, ())
    }
}
