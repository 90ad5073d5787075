//! How others reach a machine's task.

use super::view::View;
use crate::checks::health::HealthChange;
use host_api::{ChangeMetadata, HostError, Source, Stop, UpdateMachine};
use model::id::{BootId, Epoch, InstanceId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use wire::machines::Started;

/// How others reach a machine's task.
#[derive(Clone)]
pub(crate) struct Handle {
    /// Requests, with the idempotency key of the call.
    pub(crate) requests: mpsc::Sender<(Request, Option<String>)>,
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

/// The machine's VM as the host found it when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtStart {
    /// Nothing that can be used: the remains are removed.
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
    Restart(Stop, bool, Source, Reply<()>),
    Update(Box<UpdateMachine>, Reply<()>),
    Destroy(bool, Reply<()>),
    Cordon(bool, Reply<()>),
    Metadata(ChangeMetadata, Option<InstanceId>, Reply<()>),
    Signal(i32, Reply<()>),
    /// Another host owns the machine at this epoch.
    GiveUp(Epoch, Reply<()>),
    /// This host owns the machine at this newer epoch.
    SetEpoch(Epoch, Reply<()>),
    /// The edge has no request in flight at the machine any more.
    Drained,
    /// A check has changed its status.
    Health(Box<HealthChange>),
}
