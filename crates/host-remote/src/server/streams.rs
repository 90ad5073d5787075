//! Calls that stream in one direction or both.

use super::Server;
use crate::codec::{self, BodySender, ChannelBody, FrameError, FrameReader};
use crate::{grace, is_last, session_grace};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::{
    CallContext, EventFilter, ExecError, ExecInput, ExecOutput, ExecSession, ExecStart, HostError,
    ImageUpload, ImportName, RouteSubscription,
};
use model::id::{AppId, MachineId};
use tokio::sync::mpsc;
use tokio_util::sync::WaitForCancellationFutureOwned as Closed;

impl Server {
    /// Streams the rest of an answer until the caller reads no more, whatever the
    /// host does, or until the tasks stop.
    pub(super) fn stream_until_stop<F>(&self, closed: Closed, rest: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tasks.spawn_until_stop(async move {
            tokio::select! {
                () = rest => {}
                () = closed => {}
            }
        });
    }

    /// The same for an answer that comes to an end: it has its grace when the
    /// tasks stop.
    pub(super) fn stream_with_grace<F>(&self, closed: Closed, rest: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.0.tasks.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = rest => {}
                () = closed => {}
                () = grace(&tasks) => {}
            }
        });
    }

    pub(super) async fn exec(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (id, start): (MachineId, ExecStart) = body.next().await?;
        let session = self.0.host.exec(context, id, start.clone()).await;
        let (sender, answer) = codec::channel();
        let first = session.as_ref().map(|_| ()).map_err(Clone::clone);
        sender.frame(&first).await;
        let Ok(ExecSession { input, output }) = session else { return Ok(answer) };
        let (out, tasks) = (sender.clone(), self.0.tasks.clone());
        self.stream_with_grace(sender.closed(), async move {
            let over = tokio::select! {
                () = send_inputs(body, input) => false,
                over = send_outputs(output, &out) => over,
                () = session_grace(&tasks, &start) => false,
            };
            if !over {
                let why = match tasks.is_stopping() {
                    true => "the daemon of the machine's host stops",
                    false => "the machine's host ended the session",
                };
                out.frame(&ExecOutput::Failed(ExecError::Lost(why.into()))).await;
            }
        });
        Ok(answer)
    }

    pub(super) async fn logs(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (app, query): (AppId, wire::logs::LogQuery) = body.next().await?;
        let lines = self.0.host.logs(context, app, query).await;
        let (sender, answer, rest) = stream(lines).await;
        self.stream_until_stop(sender.closed(), rest);
        Ok(answer)
    }

    pub(super) async fn follow_events(
        &self,
        context: CallContext,
        mut body: FrameReader,
    ) -> Result<ChannelBody, FrameError> {
        let (filter,): (EventFilter,) = body.next().await?;
        let items = self.0.host.follow_events(context, filter).await;
        let (sender, answer, rest) = stream(items).await;
        self.stream_until_stop(sender.closed(), rest);
        Ok(answer)
    }

    pub(super) async fn import_image(
        &self,
        context: CallContext,
        name: ImportName,
        tar: ImageUpload,
    ) -> Result<ChannelBody, FrameError> {
        let progress = self.0.host.import_image(context, name, tar).await;
        let (sender, answer, rest) = stream(progress).await;
        self.stream_with_grace(sender.closed(), rest);
        Ok(answer)
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
        self.stream_until_stop(sender.closed(), rest);
        Ok(answer)
    }
}

/// Passes input to a command. It does not end: output may come after the last input.
async fn send_inputs(mut body: FrameReader, input: mpsc::Sender<ExecInput>) {
    while let Ok(message) = body.next::<ExecInput>().await {
        if input.send(message).await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// Passes the output of a command; true if its last message has been sent, or nothing
/// is there to get it.
async fn send_outputs(mut output: mpsc::Receiver<ExecOutput>, out: &BodySender) -> bool {
    while let Some(message) = output.recv().await {
        let last = is_last(&message);
        if !out.frame(&message).await || last {
            return true;
        }
    }
    false
}

/// An answer with the items of a stream, one frame each: its body, and the task that
/// writes it.
async fn stream<T: serde::Serialize + Send + Sync + 'static>(
    items: Result<BoxStream<'static, T>, HostError>,
) -> (BodySender, ChannelBody, impl Future<Output = ()> + Send + 'static) {
    let (sender, answer) = codec::channel();
    let first = items.as_ref().map(|_| ()).map_err(Clone::clone);
    sender.frame(&first).await;
    let out = sender.clone();
    let rest = async move {
        let Ok(mut items) = items else { return };
        while let Some(item) = items.next().await {
            if !out.frame(&item).await {
                return;
            }
        }
    };
    (sender, answer, rest)
}
