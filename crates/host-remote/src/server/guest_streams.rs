//! Byte streams into and out of guests.

use super::Server;
use crate::codec::{self, BodySender, ChannelBody, FrameError, FrameReader};
use crate::pipe;
use futures_util::StreamExt;
use host_api::{CallContext, GuestConnection, GuestStream, Upstream};
use std::io;
use std::time::Duration;

/// Time for a subscriber to fetch a connection of a guest.
const FETCH: Duration = Duration::from_secs(10);
/// Connections of guests that wait to be fetched, in all and of one machine: one
/// that opens many does not keep the others out.
const MAX_WAITING: usize = 64;
const MAX_WAITING_OF_MACHINE: usize = 4;

impl Server {
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
                self.pass_bytes(io, body, sender);
                Ok(answer)
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
                let GuestConnection { machine, app, listener, .. } = connection;
                // One more than there is room for is closed by being dropped.
                let Some(ticket) = server.announce(connection) else { continue };
                if !out.frame(&(ticket, machine, app, listener)).await {
                    return;
                }
            }
        };
        self.stream_until_stop(sender.closed(), rest);
        Ok(answer)
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
        self.pass_bytes(connection.io, body, sender);
        Ok(answer)
    }

    fn pass_bytes(&self, io: Box<dyn GuestStream>, body: FrameReader, sender: BodySender) {
        let closed = sender.closed();
        // A caller that reads no more closes the answer, which ends both directions.
        let passed = pipe::pass_bytes(io, body, sender.plain(), std::future::pending());
        self.stream_with_grace(closed, async move {
            if let Err(err) = passed.await {
                tracing::debug!(error = %err, "a connection to a guest broke");
            }
        });
    }
}

/// Why a connection to a guest failed, as it travels.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ConnectError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// The kinds that callers distinguish.
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
