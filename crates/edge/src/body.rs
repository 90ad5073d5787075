//! Bodies that pass through, frame by frame, and what they hold on to.

use crate::machine::Ticket;
use crate::upstream::Lease;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("read the app's answer")]
    App(#[source] hyper::Error),
    #[error("the app was silent for {0:?}")]
    Silent(Duration),
}

/// Body of an answer to a client.
#[derive(Debug)]
pub(crate) enum Body {
    Full(Option<Bytes>),
    App(Box<AppBody>),
}

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Full(Some(bytes))
    }

    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }
}

/// Body of an app's answer. While it lives it counts as load of its machine.
#[derive(Debug)]
pub(crate) struct AppBody {
    pub(crate) inner: Incoming,
    /// Given back to the pool if the body was read to its end.
    pub(crate) lease: Option<Lease>,
    pub(crate) idle: Silence,
    pub(crate) ended: bool,
    // Last on purpose: the connection is back before the place is free.
    pub(crate) ticket: Ticket,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::App(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::App(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::App(body) => body.inner.size_hint(),
        }
    }
}

impl AppBody {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.idle.broken();
                self.ended |= frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::App)))
            }
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                Poll::Ready(Some(Err(BodyError::Silent(self.idle.limit))))
            }
        }
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take()
            && (self.ended || self.inner.is_end_stream())
        {
            lease.give_back(&self.ticket.machine);
        }
    }
}

/// Notices when nothing has come for `limit`. Its timer is only made once
/// something is waited for.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    counting: bool,
}

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, counting: false }
    }

    pub(crate) fn broken(&mut self) {
        self.counting = false;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.counting {
            self.counting = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

/// How far a client's body has come; outlives the body.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Frames taken from the client.
    pub(crate) moved: AtomicU64,
    /// All of it has been taken.
    pub(crate) ended: AtomicBool,
    /// The client broke it off.
    pub(crate) failed: AtomicBool,
}

/// Body of a request on its way to an app.
#[derive(Debug)]
pub(crate) struct OutBody {
    inner: Option<(Incoming, Arc<Progress>)>,
}

impl OutBody {
    pub(crate) fn empty() -> Self {
        Self { inner: None }
    }

    /// The client's body, with the place where its progress is seen.
    pub(crate) fn new(body: Incoming) -> (Self, Option<Arc<Progress>>) {
        if body.is_end_stream() {
            return (Self::empty(), None);
        }
        let progress = Arc::new(Progress::default());
        (Self { inner: Some((body, progress.clone())) }, Some(progress))
    }
}

impl http_body::Body for OutBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, progress)) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        progress.moved.fetch_add(1, Relaxed);
        match &frame {
            Some(Err(_)) => progress.failed.store(true, Relaxed),
            None => progress.ended.store(true, Relaxed),
            Some(Ok(_)) if body.is_end_stream() => progress.ended.store(true, Relaxed),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let exact = SizeHint::with_exact(0);
        self.inner.as_ref().map_or(exact, |(body, _)| body.size_hint())
    }
}
