//! The calls that stream.

use super::{RemoteHost, begin};
use crate::codec::{BodySender, FrameReader};
use crate::{grace, is_last, pipe, session_grace};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::{
    CallContext, EventFeed, EventFilter, Exec, ExecError, ExecInput, ExecOutput, ExecSession,
    ExecStart, FeedItem, HostError, ImageUpload, Images, ImportName, LogLine, Logs, RouteSnapshot,
    RouteSubscription, Routes,
};
use model::id::{AppId, MachineId};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use wire::logs::{LogEntry, LogQuery};
use wire::machines::{ErrorBody, Image, ImageProgress, ImageRef};

/// Messages of an exec that wait in each direction.
const EXEC_QUEUE: usize = 16;
/// Route changes that an edge may be behind.
const CHANGES: usize = 4096;

/// The frames of an answer; it ends with them, or where the connection breaks.
/// The request is kept open meanwhile.
pub(super) fn frames<T: DeserializeOwned + Send + 'static>(
    request: BodySender,
    answers: FrameReader,
) -> BoxStream<'static, T> {
    let next = |(request, mut answers): (BodySender, FrameReader)| async move {
        let item = answers.next().await.ok()?;
        Some((item, (request, answers)))
    };
    stream::unfold((request, answers), next).boxed()
}

/// The steps of an import. If they break off, the last one reports it.
fn progress(answers: FrameReader) -> BoxStream<'static, ImageProgress> {
    let next = |answers: Option<FrameReader>| async move {
        let mut answers = answers?;
        let step = answers.next().await.unwrap_or_else(|err| {
            let error = format!("the import broke off: {}", rt::chain(&err));
            ImageProgress::Failed { error: ErrorBody::unknown(error) }
        });
        let is_last = !matches!(step, ImageProgress::Step { .. });
        Some((step, Some(answers).filter(|_| !is_last)))
    };
    stream::unfold(Some(answers), next).boxed()
}

/// Passes input to a command. It does not end: output may come after the last input.
async fn send_inputs(mut inputs: mpsc::Receiver<ExecInput>, request: BodySender) {
    while let Some(message) = inputs.recv().await {
        if !request.frame(&message).await {
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// Passes the output of a command, to its last message.
async fn receive_outputs(mut answers: FrameReader, outputs: &mpsc::Sender<ExecOutput>) {
    loop {
        let message = match answers.next().await {
            Ok(message) => message,
            Err(err) => lost(format!("the host is gone: {}", rt::chain(&err))),
        };
        let is_last = is_last(&message);
        if outputs.send(message).await.is_err() || is_last {
            return;
        }
    }
}

fn lost(why: String) -> ExecOutput {
    ExecOutput::Failed(ExecError::Lost(why))
}

#[async_trait]
impl Exec for RemoteHost {
    async fn exec(
        &self,
        context: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError> {
        let (request, answers, first): (_, _, Result<(), HostError>) =
            self.open("exec", context, &(id, &exec)).await?;
        first?;
        let (input, inputs) = mpsc::channel(EXEC_QUEUE);
        let (outputs, output) = mpsc::channel(EXEC_QUEUE);
        let tasks = self.0.tasks.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = send_inputs(inputs, request) => {}
                () = receive_outputs(answers, &outputs) => {}
                // Dropping the session ends the command.
                () = outputs.closed() => {}
                () = session_grace(&tasks, &exec) => {
                    // A caller that does not read sees the end all the same.
                    let _ = outputs.try_send(lost("this process stops".into()));
                }
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
        self.0.hints.line(line);
    }
}

#[async_trait]
impl EventFeed for RemoteHost {
    async fn follow_events(
        &self,
        context: CallContext,
        filter: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, HostError> {
        let (request, answers, first): (_, _, Result<(), HostError>) =
            self.open("follow_events", context, &(filter,)).await?;
        first?;
        Ok(frames(request, answers))
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
        tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        let (request, body) = begin("import_image", &context, &(name,))?;
        let (closed, tasks) = (request.closed(), self.0.tasks.clone());
        // The upload continues while the answer begins: the host may refuse early.
        self.0.tasks.spawn(async move {
            tokio::select! {
                // A tar that breaks off breaks the upload, which the host notices.
                _ = pipe::send_all(tar, request.plain()) => {}
                () = closed => {}
                () = grace(&tasks) => {}
            }
        });
        let (answers, first): (_, Result<(), HostError>) =
            self.exchange("import_image", context.deadline, body).await?;
        first?;
        Ok(progress(answers))
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
