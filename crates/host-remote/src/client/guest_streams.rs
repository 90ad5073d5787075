//! Byte streams into and out of guests.

use super::streams::frames;
use super::{RemoteHost, begin};
use crate::codec::{BodySender, FrameReader};
use crate::server::ConnectError;
use crate::{grace, pipe};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::{
    CallContext, Connections, Deadline, GuestConnection, GuestListener, GuestStream, HostError,
    Upstream,
};
use model::id::{AppId, MachineId};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes that wait in each direction of a connection.
const CONNECTION_BUFFER: usize = 64 * 1024;
/// Connections of guests that are fetched at once.
const FETCHES: usize = 32;
/// Time for one to be fetched.
const FETCH: Duration = Duration::from_secs(10);

#[async_trait]
impl Connections for RemoteHost {
    async fn connect(
        &self,
        context: CallContext,
        upstream: Upstream,
    ) -> io::Result<Box<dyn GuestStream>> {
        // The host gives up first, so that a guest's silence is not taken for its own.
        let left = context.deadline.remaining();
        let deadline = Deadline::within(left - left / 10);
        let sent = CallContext { deadline, ..context };
        let (request, body) = begin("connect", &sent, &(upstream,)).map_err(unreachable)?;
        let (answers, first): (_, Result<(), ConnectError>) =
            self.exchange("connect", context.deadline, body).await.map_err(unreachable)?;
        first?;
        Ok(Box::new(self.pass_bytes(request, answers)))
    }

    async fn guest_connections(
        &self,
        context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        let (request, answers, first): (_, _, Result<(), HostError>) =
            self.open("guest_connections", context, &()).await?;
        first?;
        let announced = frames::<(u64, MachineId, AppId, GuestListener)>(request, answers);
        let host = self.clone();
        let fetch = move |(ticket, machine, app, listener)| {
            let host = host.clone();
            async move {
                let io = host.fetch(ticket).await;
                let io = io.inspect_err(|err| {
                    tracing::debug!(error = %err, "a connection of a guest is gone");
                });
                Some(GuestConnection { machine, app, listener, io: Box::new(io.ok()?) })
            }
        };
        // At once: one that the host takes long to hand over holds up no other.
        Ok(announced.map(fetch).buffer_unordered(FETCHES).filter_map(std::future::ready).boxed())
    }
}

fn unreachable(err: HostError) -> io::Error {
    let kind = match &err {
        HostError::DeadlineExceeded(_) => io::ErrorKind::TimedOut,
        HostError::Unavailable { .. } => io::ErrorKind::HostUnreachable,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, err)
}

impl RemoteHost {
    /// The bytes of a call as a stream of this process.
    fn pass_bytes(&self, request: BodySender, answers: FrameReader) -> GuestPipe {
        let (ours, mut theirs) = tokio::io::duplex(CONNECTION_BUFFER);
        let (broken, dropped) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let pipe =
            GuestPipe { io: ours, broken: broken.clone(), _dropped: dropped.clone().drop_guard() };
        let tasks = self.0.tasks.clone();
        self.0.tasks.spawn(async move {
            let unread = dropped.cancelled();
            let whole = tokio::select! {
                passed = pipe::pass_bytes(&mut theirs, answers, request.plain(), unread) => {
                    passed.is_ok()
                }
                () = grace(&tasks) => false,
            };
            // Before the end of the stream can be seen.
            broken.store(!whole, Ordering::Release);
            drop(theirs);
        });
        pipe
    }

    /// A connection of a guest that has been announced.
    async fn fetch(&self, ticket: u64) -> io::Result<GuestPipe> {
        let context = CallContext::control(FETCH);
        let (request, answers, first): (_, _, Result<(), ConnectError>) =
            self.open("guest_connection", context, &(ticket,)).await.map_err(unreachable)?;
        first?;
        Ok(self.pass_bytes(request, answers))
    }
}

/// A connection to a guest on another host. Where the connection to that host breaks,
/// reading ends with an error, never with an end of the stream.
struct GuestPipe {
    io: DuplexStream,
    broken: Arc<AtomicBool>,
    _dropped: DropGuard,
}

impl AsyncRead for GuestPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let is_end = buffer.filled().len() == before && room > 0;
        if is_end && self.broken.load(Ordering::Acquire) {
            let text = "the connection to the machine broke, or that to its host";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, text)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuestPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
