//! The body of a request on its way to an app, and how far it has come.

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

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
