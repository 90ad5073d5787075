//! Why the machine's own host does not take a request.

use model::id::{Epoch, HostId};

/// Why the machine's own host does not take a request. The edge that asked may
/// try another machine; of [`Refusal::NotMine`] and [`Refusal::Stale`] it learns
/// that its table is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The service is at its hard limit.
    #[error("the machine is at its hard limit")]
    AtLimit,
    /// There is no such machine (any more), or it has no such service.
    #[error("the machine is gone")]
    Gone,
    /// It is being stopped, or has been a moment ago: it has to be woken first.
    #[error("the machine has just been stopped")]
    RecentlyStopped,
    /// It does not run, or does not listen yet.
    #[error("the machine is not ready")]
    NotReady,
    /// It belongs to another host.
    #[error("the machine belongs to host {0}")]
    NotMine(HostId),
    /// The caller acts on an older ownership than is known here.
    #[error("the machine is at ownership epoch {known}")]
    Stale {
        /// The epoch that is known here.
        known: Epoch,
    },
}
