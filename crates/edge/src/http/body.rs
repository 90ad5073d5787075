//! Bodies of answers to clients, frame by frame, and what they hold on to.

use crate::admission::permit::Permit;
use crate::http::silence::Silence;
use crate::listen::connections::OpenRequest;
use crate::upstream::pool::Lease;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
pub(crate) struct Body {
    content: Content,
    /// While it lives the client's connection is not idle.
    open: Option<OpenRequest>,
}

#[derive(Debug)]
enum Content {
    Full(Option<Bytes>),
    App(Box<AppBody>),
}

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self { content: Content::Full(Some(bytes)), open: None }
    }

    pub(crate) fn empty() -> Self {
        Self { content: Content::Full(None), open: None }
    }

    pub(crate) fn app(body: AppBody) -> Self {
        Self { content: Content::App(Box::new(body)), open: None }
    }

    /// Keeps the client's connection from being idle while the body lives.
    pub(crate) fn hold_open(&mut self, open: OpenRequest) {
        self.open = Some(open);
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
    pub(crate) permit: Permit,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().content {
            Content::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::App(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.is_none(),
            Content::App(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::App(body) => body.inner.size_hint(),
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
                self.idle.end();
                self.ended |= frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::App)))
            }
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                Poll::Ready(Some(Err(BodyError::Silent(self.idle.limit()))))
            }
        }
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take()
            && (self.ended || self.inner.is_end_stream())
        {
            lease.give_back(&self.permit.machine);
        }
    }
}
