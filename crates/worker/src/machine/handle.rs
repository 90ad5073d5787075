//! How others reach a machine's task.

use super::view::View;
use crate::checks::health::HealthChange;
use host_api::{AcquireLease, CallContext, ChangeMetadata, HostError, Source, Stop, UpdateMachine};
use model::id::{BootId, Epoch, InstanceId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use wire::machines::{Lease, Started};

/// How others reach a machine's task.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) requests: mpsc::Sender<Call>,
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

/// A request and what its call carries beside it.
pub(crate) struct Call {
    pub(crate) request: Request,
    /// Idempotency key of the call.
    pub(crate) key: Option<String>,
    pub(crate) guard: Guard,
}

impl Call {
    /// A request of the host itself.
    pub(crate) fn of_host(request: Request) -> Self {
        Self { request, key: None, guard: Guard::Exempt }
    }
}

/// Whether a request is refused if another caller holds the machine's lease.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It is not.
    Exempt,
    /// It is, unless this is the nonce of the lease.
    Nonce(Option<String>),
}

impl Guard {
    /// Of a change that leases guard.
    pub(crate) fn of(context: &CallContext) -> Self {
        match context.respects_leases() {
            true => Self::Nonce(context.lease_nonce.clone()),
            false => Self::Exempt,
        }
    }
}

/// A request with the channel for its answer. An answer means that the desired
/// state is durable.
pub(crate) enum Request {
    Start(Source, Reply<Started>),
    Stop(Stop, Source, Option<String>, Reply<()>),
    Suspend(Source, Option<String>, Reply<()>),
    Restart(Stop, bool, Source, Reply<()>),
    /// An update, by a caller that holds the lease with this nonce.
    Update(Box<UpdateMachine>, Option<String>, Reply<()>),
    Destroy(bool, Reply<()>),
    Cordon(bool, Reply<()>),
    Metadata(ChangeMetadata, Option<InstanceId>, Reply<()>),
    Signal(i32, Reply<()>),
    /// Busy for so many milliseconds; 0 is not busy.
    Busy(u64, Reply<Option<u64>>),
    /// A lease, for a caller that holds the one with this nonce.
    AcquireLease(AcquireLease, Option<String>, Reply<Lease>),
    /// No change: whether the guard of the call lets one through.
    CheckGuard(Reply<()>),
    /// The end of the lease with this nonce.
    ReleaseLease(Option<String>, Reply<()>),
    /// Another host owns the machine at this epoch.
    GiveUp(Epoch, Reply<()>),
    /// This host owns the machine at this newer epoch.
    SetEpoch(Epoch, Reply<()>),
    /// The edge has no request in flight at the machine any more.
    Drained,
    /// A check has changed its status.
    Health(Box<HealthChange>),
}

impl Request {
    /// Answers with an error, without doing anything.
    pub(crate) fn refuse(self, err: HostError) {
        // The caller may have gone.
        match self {
            Self::Start(_, reply) => drop(reply.send(Err(err))),
            Self::AcquireLease(_, _, reply) => drop(reply.send(Err(err))),
            Self::Busy(_, reply) => drop(reply.send(Err(err))),
            Self::Stop(_, _, _, reply)
            | Self::Suspend(_, _, reply)
            | Self::Restart(_, _, _, reply)
            | Self::Update(_, _, reply)
            | Self::Destroy(_, reply)
            | Self::Cordon(_, reply)
            | Self::Metadata(_, _, reply)
            | Self::Signal(_, reply)
            | Self::CheckGuard(reply)
            | Self::ReleaseLease(_, reply)
            | Self::GiveUp(_, reply)
            | Self::SetEpoch(_, reply) => drop(reply.send(Err(err))),
            Self::Drained | Self::Health(_) => {}
        }
    }
}
