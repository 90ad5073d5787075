//! The calls that stream.

use super::{Hint, RemoteHost, begin};
use crate::DRAIN;
use crate::codec::{BodySender, FrameReader};
use crate::server::ConnectError;
use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream};
use host_api::{
    CallContext, Connections, Deadline, Exec, ExecError, ExecOutput, ExecSession, ExecStart,
    GuestConnection, GuestStream, HostError, ImageUpload, Images, ImportName, LogLine, Logs,
    RouteSnapshot, RouteSubscription, Routes, Upstream,
};
use model::id::{AppId, MachineId};
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use wire::logs::{LogEntry, LogQuery};
use wire::machines::{Image, ImageProgress, ImageRef};

/// Messages of an exec that wait in each direction.
const EXEC_QUEUE: usize = 16;
/// Route changes that an edge may be behind.
const CHANGES: usize = 4096;
/// Bytes that wait in each direction of a connection.
const CONNECTION_BUFFER: usize = 64 * 1024;
const CHUNK: usize = 32 * 1024;
/// Connections of guests that are fetched at once.
const FETCHES: usize = 32;

/// The frames of an answer; it ends with them, or where the connection breaks.
/// The request is kept open meanwhile.
fn frames<T: DeserializeOwned + Send + 'static>(
    request: BodySender,
    answers: FrameReader,
) -> BoxStream<'static, T> {
    let next = |(request, mut answers): (BodySender, FrameReader)| async move {
        let item = answers.next().await.ok()?;
        Some((item, (request, answers)))
    };
    stream::unfold((request, answers), next).boxed()
}

#[async_trait]
impl Exec for RemoteHost {
    async fn exec(
        &self,
        context: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError> {
        let (request, mut answers, first): (_, _, Result<(), HostError>) =
            self.open("exec", context, &(id, exec)).await?;
        first?;
        let (input, mut inputs) = mpsc::channel(EXEC_QUEUE);
        let (outputs, output) = mpsc::channel(EXEC_QUEUE);
        self.0.tasks.spawn_until_stop(async move {
            let pass_input = async {
                while let Some(message) = inputs.recv().await {
                    if !request.frame(&message).await {
                        break;
                    }
                }
                // Output may come after the last input.
                std::future::pending::<()>().await;
            };
            let pass_output = async {
                loop {
                    let message = match answers.next().await {
                        Ok(message) => message,
                        Err(err) => {
                            ExecOutput::Failed(ExecError::Lost(format!("the host is gone: {err}")))
                        }
                    };
                    let is_last =
                        matches!(message, ExecOutput::Exited { .. } | ExecOutput::Failed(_));
                    if outputs.send(message).await.is_err() || is_last {
                        return;
                    }
                }
            };
            tokio::select! {
                () = pass_input => {}
                () = pass_output => {}
                // Dropping the session ends the command.
                () = outputs.closed() => {}
            }
        });
        Ok(ExecSession { input, output })
    }
}

#[async_trait]
impl Logs for RemoteHost {
    async fn logs(
        &self,
        context: CallContext,
        app: AppId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        let (request, answers, first): (_, _, Result<(), HostError>) =
            self.open("logs", context, &(app, query)).await?;
        first?;
        Ok(frames(request, answers))
    }

    fn append(&self, line: LogLine) {
        self.hint(Hint::Line(line));
    }
}

#[async_trait]
impl Images for RemoteHost {
    async fn resolve_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<ImageRef, HostError> {
        self.unary("resolve_image", context, &(reference,)).await?
    }

    async fn import_image(
        &self,
        context: CallContext,
        name: ImportName,
        mut tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        let (request, body) = begin("import_image", &context, &(name,))?;
        // The upload continues while the answer begins: the host may refuse early.
        self.0.tasks.spawn_until_stop(async move {
            let mut buffer = BytesMut::with_capacity(CHUNK);
            loop {
                buffer.reserve(CHUNK);
                let read = tar.read_buf(&mut buffer).await;
                // A tar that breaks off is noticed by the host.
                if !matches!(read, Ok(count) if count > 0)
                    || !request.bytes(buffer.split().freeze()).await
                {
                    return;
                }
            }
        });
        let (answers, first): (_, Result<(), HostError>) =
            self.exchange("import_image", context.deadline, body).await?;
        first?;
        Ok(stream::unfold(answers, |mut answers| async move {
            let item = answers.next().await.ok()?;
            Some((item, answers))
        })
        .boxed())
    }

    async fn images(&self, context: CallContext) -> Result<Vec<Image>, HostError> {
        self.unary("images", context, &()).await?
    }

    async fn remove_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<bool, HostError> {
        self.unary("remove_image", context, &(reference,)).await?
    }
}

#[async_trait]
impl Routes for RemoteHost {
    async fn routes(&self, context: CallContext) -> Result<RouteSubscription, HostError> {
        let (request, mut answers, first): (_, _, Result<RouteSnapshot, HostError>) =
            self.open("routes", context, &()).await?;
        let snapshot = first?;
        let (sender, changes) = mpsc::channel(CHANGES);
        let (acknowledge, mut acknowledged) = mpsc::channel::<u64>(256);
        self.0.tasks.spawn_until_stop(async move {
            let pass_changes = async {
                while let Ok(change) = answers.next().await {
                    if sender.send(change).await.is_err() {
                        return;
                    }
                }
            };
            let pass_acknowledgements = async {
                while let Some(generation) = acknowledged.recv().await {
                    if !request.frame(&generation).await {
                        return;
                    }
                }
                // The subscriber no longer acknowledges, but still receives changes.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = pass_changes => {}
                () = pass_acknowledgements => {}
                () = sender.closed() => {}
            }
        });
        Ok(RouteSubscription { snapshot, changes, acknowledge })
    }
}

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
        let announced = frames::<(u64, MachineId, AppId)>(request, answers);
        let host = self.clone();
        let fetch = move |(ticket, machine, app)| {
            let host = host.clone();
            async move {
                let io = host.fetch(ticket).await;
                let io = io.inspect_err(|err| {
                    tracing::debug!(error = %err, "a connection of a guest is gone");
                });
                Some(GuestConnection { machine, app, io: Box::new(io.ok()?) })
            }
        };
        // At once: one that the host takes long to hand over holds up no other.
        Ok(announced.map(fetch).buffer_unordered(FETCHES).filter_map(ready).boxed())
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
    fn pass_bytes(&self, request: BodySender, mut answers: FrameReader) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(CONNECTION_BUFFER);
        let (mut from_caller, mut to_caller) = tokio::io::split(theirs);
        // A connection under way has its grace when the process stops.
        let stopping = self.0.tasks.stopping();
        self.0.tasks.spawn(async move {
            let outward = async move {
                let mut buffer = BytesMut::with_capacity(CHUNK);
                loop {
                    buffer.reserve(CHUNK);
                    if from_caller.read_buf(&mut buffer).await? == 0
                        || !request.bytes(buffer.split().freeze()).await
                    {
                        return Ok::<(), io::Error>(());
                    }
                }
            };
            let inward = async move {
                while let Ok(Some(bytes)) = answers.bytes().await {
                    to_caller.write_all(&bytes).await?;
                }
                to_caller.shutdown().await
            };
            let grace = async move {
                stopping.await;
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                // An error in one direction ends the other, too.
                _ = async { tokio::try_join!(outward, inward) } => {}
                () = grace => {}
            }
        });
        ours
    }

    /// A connection of a guest that has been announced.
    async fn fetch(&self, ticket: u64) -> io::Result<DuplexStream> {
        let context = CallContext::control(std::time::Duration::from_secs(10));
        let (request, answers, first): (_, _, Result<(), ConnectError>) =
            self.open("guest_connection", context, &(ticket,)).await.map_err(unreachable)?;
        first?;
        Ok(self.pass_bytes(request, answers))
    }
}
