//! Bodies of answers to clients, frame by frame, and what they hold on to.

use crate::admission::permit::Permit;
use crate::listen::connections::OpenRequest;
use crate::upstream::pool::Lease;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use rt::Silence;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("read the app's answer")]
    App(#[source] hyper::Error),
    #[error("the app was silent for {0:?}")]
    Silent(Duration),
    #[error("the client took nothing of the answer for too long")]
    NotTaken,
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
    App(Arc<Mutex<Option<AppBody>>>),
}

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self { content: Content::Full(Some(bytes)), open: None }
    }

    pub(crate) fn empty() -> Self {
        Self { content: Content::Full(None), open: None }
    }

    pub(crate) fn app(body: AppBody) -> Self {
        Self { content: Content::App(Arc::new(Mutex::new(Some(body)))), open: None }
    }

    /// Keeps the client's connection from being idle while the body lives.
    pub(crate) fn hold_open(&mut self, open: OpenRequest) {
        if let Content::App(body) = &self.content
            && let Some(body) = lock(body).as_mut()
        {
            body.open = Some(open);
            return;
        }
        self.open = Some(open);
    }
}

/// Bodies of answers over HTTP/2 on one core.
///
/// A client that gives no window lets the body of its answer lie: it is not polled, so
/// that its own clock is paused, while the connection answers pings. It
/// must not keep its place at the machine, and the connection to it, without end.
#[derive(Debug, Default)]
pub(crate) struct OpenBodies(Mutex<Vec<Weak<Mutex<Option<AppBody>>>>>);

impl OpenBodies {
    /// Takes care that `body` is dropped once its client has taken nothing for the time
    /// in which the app would have to send something.
    pub(crate) fn watch(&self, body: &mut Body) {
        if let Content::App(body) = &body.content {
            if let Some(body) = lock(body).as_mut() {
                body.piece = HTTP2_PIECE;
            }
            lock(&self.0).push(Arc::downgrade(body));
        }
    }

    /// Drops bodies that are not taken.
    pub(crate) fn sweep(&self) {
        lock(&self.0).retain(|body| {
            let Some(body) = body.upgrade() else { return false };
            let mut body = lock(&body);
            let is_stuck = body.as_ref().is_some_and(AppBody::is_stuck);
            // With it go the place at the machine and the use of the connection.
            drop(if is_stuck { body.take() } else { None });
            body.is_some()
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longest piece of a body that is handed to HTTP/2 at once. One that is taken shows that
/// the client takes bytes at all.
const HTTP2_PIECE: usize = 16 << 10;

/// Body of an app's answer. While it lives it counts as load of its machine.
#[derive(Debug)]
pub(crate) struct AppBody {
    inner: Incoming,
    /// Data that has been read and not been handed on.
    rest: Bytes,
    /// Longest piece that is handed on at once.
    piece: usize,
    /// Given back to the pool if the body was read to its end.
    lease: Option<Lease>,
    /// Longest time in which neither app nor client moves.
    limit: Duration,
    /// While the app is to send something.
    silence: Silence,
    ended: bool,
    /// Since when the next piece is the client's to take; `None` while it is the app's
    /// to send.
    ready_since: Option<Instant>,
    open: Option<OpenRequest>,
    // Last on purpose: the connection is back before the place is free.
    permit: Permit,
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
            Content::App(body) => match lock(body).as_mut() {
                Some(body) => body.poll_frame(cx),
                None => Poll::Ready(Some(Err(BodyError::NotTaken))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.is_none(),
            Content::App(body) => lock(body).as_ref().is_some_and(AppBody::is_at_end),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::App(body) => lock(body).as_ref().map_or_else(SizeHint::default, |body| {
                let (inner, rest) = (body.inner.size_hint(), body.rest.len() as u64);
                let mut hint = SizeHint::default();
                hint.set_lower(inner.lower().saturating_add(rest));
                inner.upper().inspect(|upper| hint.set_upper(upper.saturating_add(rest)));
                hint
            }),
        }
    }
}

impl AppBody {
    pub(crate) fn new(inner: Incoming, mut lease: Lease, limit: Duration, permit: Permit) -> Self {
        let silence = std::mem::take(&mut lease.silence);
        let (rest, piece, lease) = (Bytes::new(), usize::MAX, Some(lease));
        let ready_since = Some(Instant::now());
        let (ended, open) = (false, None);
        Self { inner, rest, piece, lease, limit, silence, ended, ready_since, open, permit }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    /// The client has taken nothing for the idle time.
    fn is_stuck(&self) -> bool {
        self.ready_since.is_some_and(|since| since.elapsed() >= self.limit)
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ready_since = Some(Instant::now());
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next_piece())));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.silence.end();
                self.ended |= frame.is_none();
                Poll::Ready(frame.map(|frame| match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => {
                        self.rest = data;
                        Ok(self.next_piece())
                    }
                    Ok(Err(other)) => Ok(other),
                    Err(err) => Err(BodyError::App(err)),
                }))
            }
            Poll::Pending => {
                self.ready_since = None;
                ready!(self.silence.poll(cx, self.limit));
                Poll::Ready(Some(Err(BodyError::Silent(self.limit))))
            }
        }
    }

    fn next_piece(&mut self) -> Frame<Bytes> {
        Frame::data(self.rest.split_to(self.rest.len().min(self.piece)))
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        let is_read = self.rest.is_empty() && (self.ended || self.inner.is_end_stream());
        if let Some(mut lease) = self.lease.take()
            && is_read
        {
            self.silence.end();
            lease.silence = std::mem::take(&mut self.silence);
            lease.give_back(&self.permit.machine);
        }
    }
}
