//! How others reach a machine's task.

use super::view::View;
use model::id::BootId;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use wire::machines::Started;
use wire::worker::{ChangeMetadata, HostError, Source, Stop, UpdateMachine};

/// How others reach a machine's task.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) views: watch::Receiver<Arc<View>>,
}

impl Handle {
    /// A machine without a task, such as a destroyed one of an earlier daemon: it
    /// can be shown, nothing more.
    pub(crate) fn without_task(view: View) -> Self {
        // Both channels are closed; what the view shows stays.
        let (requests, _) = mpsc::channel(1);
        let (_, views) = watch::channel(Arc::new(view));
        Self { requests, views }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }
}

/// What the host found of a machine's VM when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtStart {
    /// Nothing that can be used: whatever is left is removed.
    Leftover,
    /// It runs and is to be taken over.
    Running(BootId),
    /// It is paused and its snapshot is complete.
    Saved,
    /// There was no VM.
    NoVm,
}

/// Answers a request.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, HostError>>;

/// A request with the channel for its answer. An answer means that the desired
/// state is durable.
pub(crate) enum Request {
    Start(Source, Reply<Started>),
    Stop(Stop, Source, Option<String>, Reply<()>),
    Suspend(Source, Option<String>, Reply<()>),
    Restart(Stop, bool, Reply<()>),
    Update(Box<UpdateMachine>, Reply<()>),
    Destroy(bool, Reply<()>),
    Cordon(bool, Reply<()>),
    Metadata(ChangeMetadata, Option<String>, Reply<()>),
    Signal(i32, Reply<()>),
    /// The edge has no request in flight at the machine any more.
    Drained,
}
