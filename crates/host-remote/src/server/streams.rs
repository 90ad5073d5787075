//! Calls that stream in one direction or both.

use super::Server;
use crate::codec::{self, BodySender, ChannelBody, FrameError, FrameReader};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use host_api::{
    CallContext, ExecInput, ExecSession, ExecStart, GuestConnection, GuestStream, HostError,
    ImageUpload, ImportName, RouteSubscription, Upstream,
};
use model::id::{AppId, MachineId};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

/// Time for a subscriber to fetch a connection of a guest.
const FETCH: Duration = Duration::from_secs(10);
/// Connections of guests that wait to be fetched, in all and of one machine: one
/// that opens many does not keep the others out.
const MAX_WAITING: usize = 64;
const MAX_WAITING_OF_MACHINE: usize = 4;
const CHUNK: usize = 32 * 1024;

impl Server {
    /// The first frame of an answer, then a task that streams the rest.
    async fn answer_with<F>(&self, sender: BodySender, body: ChannelBody, rest: F) -> ChannelBody
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Ends when the caller reads no more, whatever the host does.
        self.0.tasks.spawn_until_stop(async move {
            tokio::select! {
                () = rest => {}
                () = sender.closed() => {}
            }
        });
        body
    }

    pub(super) async fn exec(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (id, start): (MachineId, ExecStart) = body.next().await?;
        let session = self.0.host.exec(context, id, start).await;
        let (sender, answer) = codec::channel();
        let first = session.as_ref().map(|_| ()).map_err(Clone::clone);
        sender.frame(&first).await;
        let Ok(ExecSession { input, mut output }) = session else { return Ok(answer) };
        let inputs = async move {
            while let Ok(message) = body.next::<ExecInput>().await {
                if input.send(message).await.is_err() {
                    break;
                }
            }
            // One direction of a session may end before the other.
            std::future::pending::<()>().await;
        };
        let out = sender.clone();
        let outputs = async move {
            while let Some(message) = output.recv().await {
                if !out.frame(&message).await {
                    return;
                }
            }
        };
        let rest = async move {
            tokio::select! {
                () = inputs => {}
                () = outputs => {}
            }
        };
        Ok(self.answer_with(sender, answer, rest).await)
    }

    pub(super) async fn logs(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (app, query): (AppId, wire::logs::LogQuery) = body.next().await?;
        let lines = self.0.host.logs(context, app, query).await;
        self.stream(lines).await
    }

    pub(super) async fn import_image(
        &self,
        context: CallContext,
        name: ImportName,
        tar: ImageUpload,
    ) -> Result<ChannelBody, FrameError> {
        let progress = self.0.host.import_image(context, name, tar).await;
        self.stream(progress).await
    }

    /// Answers with the items of a stream, one frame each.
    async fn stream<T: serde::Serialize + Send + Sync + 'static>(
        &self,
        items: Result<futures_util::stream::BoxStream<'static, T>, HostError>,
    ) -> Result<ChannelBody, FrameError> {
        let (sender, answer) = codec::channel();
        let first = items.as_ref().map(|_| ()).map_err(Clone::clone);
        sender.frame(&first).await;
        let Ok(mut items) = items else { return Ok(answer) };
        let out = sender.clone();
        let rest = async move {
            while let Some(item) = items.next().await {
                if !out.frame(&item).await {
                    return;
                }
            }
        };
        Ok(self.answer_with(sender, answer, rest).await)
    }

    pub(super) async fn routes(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (): () = body.next().await?;
        let (sender, answer) = codec::channel();
        let subscription = match self.0.host.routes(context).await {
            Ok(subscription) => subscription,
            Err(err) => {
                sender.frame(&Err::<(), _>(err)).await;
                return Ok(answer);
            }
        };
        let RouteSubscription { snapshot, mut changes, acknowledge } = subscription;
        let out = sender.clone();
        let rest = async move {
            // The snapshot may be larger than the queue of the body.
            if !out.frame(&Ok::<_, HostError>(snapshot)).await {
                return;
            }
            let acknowledged = async {
                while let Ok(generation) = body.next::<u64>().await {
                    if acknowledge.send(generation).await.is_err() {
                        return;
                    }
                }
            };
            let changed = async {
                while let Some(change) = changes.recv().await {
                    if !out.frame(&change).await {
                        return;
                    }
                }
            };
            tokio::select! {
                () = acknowledged => {}
                () = changed => {}
            }
        };
        Ok(self.answer_with(sender, answer, rest).await)
    }

    pub(super) async fn connect(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (upstream,): (Upstream,) = body.next().await?;
        let (sender, answer) = codec::channel();
        match self.0.host.connect(context, upstream).await {
            Ok(io) => {
                sender.frame(&Ok::<(), ConnectError>(())).await;
                let rest = pass_bytes(io, body, sender.clone());
                Ok(self.answer_with(sender, answer, rest).await)
            }
            Err(err) => {
                sender.frame(&Err::<(), _>(ConnectError::from(&err))).await;
                Ok(answer)
            }
        }
    }

    pub(super) async fn guest_connections(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (): () = body.next().await?;
        let connections = self.0.host.guest_connections(context).await;
        let (sender, answer) = codec::channel();
        let first = connections.as_ref().map(|_| ()).map_err(Clone::clone);
        sender.frame(&first).await;
        let Ok(mut connections) = connections else { return Ok(answer) };
        let (server, out) = (self.clone(), sender.clone());
        let rest = async move {
            while let Some(connection) = connections.next().await {
                let (machine, app) = (connection.machine, connection.app);
                // One more than there is room for is closed by being dropped.
                let Some(ticket) = server.announce(connection) else { continue };
                if !out.frame(&(ticket, machine, app)).await {
                    return;
                }
            }
        };
        Ok(self.answer_with(sender, answer, rest).await)
    }

    /// Keeps a connection of a guest until it is fetched, for a while.
    fn announce(&self, connection: GuestConnection) -> Option<u64> {
        let mut guests = self.guests();
        let of_machine = guests.waiting.values().filter(|of| of.machine == connection.machine);
        if guests.waiting.len() >= MAX_WAITING || of_machine.count() >= MAX_WAITING_OF_MACHINE {
            return None;
        }
        guests.last += 1;
        let ticket = guests.last;
        guests.waiting.insert(ticket, connection);
        drop(guests);
        let server = self.clone();
        self.0.tasks.spawn_until_stop(async move {
            tokio::time::sleep(FETCH).await;
            server.guests().waiting.remove(&ticket);
        });
        Some(ticket)
    }

    pub(super) async fn guest_connection(
        &self,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (ticket,): (u64,) = body.next().await?;
        let found = self.guests().waiting.remove(&ticket);
        let (sender, answer) = codec::channel();
        let Some(connection) = found else {
            let gone = ConnectError { kind: ErrorKind::NotFound, message: "it is gone".into() };
            sender.frame(&Err::<(), _>(gone)).await;
            return Ok(answer);
        };
        sender.frame(&Ok::<(), ConnectError>(())).await;
        let rest = pass_bytes(connection.io, body, sender.clone());
        Ok(self.answer_with(sender, answer, rest).await)
    }
}

/// Passes bytes between a guest and the body of a call until both directions
/// have ended, or one is broken.
async fn pass_bytes(io: Box<dyn GuestStream>, mut body: FrameReader, sender: BodySender) {
    let (mut from_guest, mut to_guest) = tokio::io::split(io);
    let inward = async move {
        while let Ok(Some(bytes)) = body.bytes().await {
            to_guest.write_all(&bytes).await?;
        }
        to_guest.shutdown().await
    };
    let outward = async move {
        let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
        loop {
            buffer.reserve(CHUNK);
            if from_guest.read_buf(&mut buffer).await? == 0
                || !sender.bytes(buffer.split().freeze()).await
            {
                return Ok::<(), io::Error>(());
            }
        }
    };
    // An error in one direction ends the other, too.
    let _ = tokio::try_join!(inward, outward);
}

/// Why a connection to a guest failed, as it travels.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ConnectError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// The kinds that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    NotFound,
    ConnectionRefused,
    ConnectionReset,
    TimedOut,
    HostUnreachable,
    #[serde(other)]
    Other,
}

const KINDS: [(ErrorKind, io::ErrorKind); 5] = [
    (ErrorKind::NotFound, io::ErrorKind::NotFound),
    (ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionRefused),
    (ErrorKind::ConnectionReset, io::ErrorKind::ConnectionReset),
    (ErrorKind::TimedOut, io::ErrorKind::TimedOut),
    (ErrorKind::HostUnreachable, io::ErrorKind::HostUnreachable),
];

impl From<&io::Error> for ConnectError {
    fn from(err: &io::Error) -> Self {
        let kind = KINDS.into_iter().find(|(_, kind)| *kind == err.kind());
        let kind = kind.map_or(ErrorKind::Other, |(kind, _)| kind);
        Self { kind, message: err.to_string() }
    }
}

impl From<ConnectError> for io::Error {
    fn from(err: ConnectError) -> Self {
        let kind = KINDS.into_iter().find(|(kind, _)| *kind == err.kind);
        Self::new(kind.map_or(io::ErrorKind::Other, |(_, kind)| kind), err.message)
    }
}

/// The plain bytes of a body, as a reader.
pub(crate) struct BodyRead {
    state: ReadState,
    left: Bytes,
}

type Next = (FrameReader, Result<Option<Bytes>, FrameError>);

enum ReadState {
    Reading(BoxFuture<'static, Next>),
    Ended,
}

impl BodyRead {
    pub(crate) fn new(body: FrameReader) -> Self {
        Self { state: ReadState::Reading(next(body)), left: Bytes::new() }
    }
}

fn next(mut body: FrameReader) -> BoxFuture<'static, Next> {
    Box::pin(async move {
        let bytes = body.bytes().await;
        (body, bytes)
    })
}

impl AsyncRead for BodyRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.left.is_empty() {
                let count = self.left.len().min(buffer.remaining());
                buffer.put_slice(&self.left.split_to(count));
                return Poll::Ready(Ok(()));
            }
            let ReadState::Reading(reading) = &mut self.state else { return Poll::Ready(Ok(())) };
            match std::task::ready!(reading.as_mut().poll(context)) {
                (body, Ok(Some(bytes))) => {
                    self.left = bytes;
                    self.state = ReadState::Reading(next(body));
                }
                (_, Ok(None)) => self.state = ReadState::Ended,
                (_, Err(err)) => {
                    self.state = ReadState::Ended;
                    return Poll::Ready(Err(io::Error::other(err)));
                }
            }
        }
    }
}
