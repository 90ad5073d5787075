//! Waking machines for traffic, and stopping or suspending idle ones.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::MachineId;
use serde::{Deserialize, Serialize};

/// Wakes machines for traffic, and stops or suspends idle ones. Any edge that routes to
/// the host calls it.
#[async_trait]
pub trait Load: Send + Sync {
    /// Wakes a machine: returns once it is started (its app may not listen
    /// yet; that arrives as a route change), at once if it already is. A
    /// machine that is on its way down is started again once it is down.
    async fn wake(&self, context: CallContext, id: MachineId) -> Result<(), WakeRefused>;

    /// Stops an idle machine, to which the caller no longer routes. Returns
    /// once the intent is durable.
    async fn stop_idle(
        &self,
        context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused>;

    /// Suspends an idle machine, or stops it where it cannot be suspended;
    /// otherwise like [`Load::stop_idle`].
    async fn suspend_idle(
        &self,
        context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused>;

    /// Declares a machine busy for `ttl_ms` from now, or with 0 no longer busy. Until then it
    /// is not idle, whatever traffic it has. Returns when that ends, milliseconds since the
    /// epoch, once it is durable; `None` if the machine is not busy. Only of a machine that
    /// runs ([`HostError::Conflict`]).
    async fn set_busy(
        &self,
        context: CallContext,
        id: MachineId,
        ttl_ms: u64,
    ) -> Result<Option<u64>, HostError> {
        let _ = (context, id, ttl_ms);
        Err(HostError::Unsupported("this host knows no busy machines".into()))
    }

    /// A machine whose route has become `Stopping` has nothing in flight any
    /// more, and gets nothing. A hint: it never waits and may be lost.
    fn drained(&self, id: MachineId);

    /// Sessions (exec, forwarded connections) that are open at a machine beside
    /// its requests: a machine with any is not idle. 0 at a host of another process, which
    /// is not asked: that host refuses to stop a machine that has some.
    fn sessions(&self, id: MachineId) -> usize;
}

/// Why a machine cannot be woken, stopped or suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum WakeRefused {
    /// The host has no such machine (any more).
    #[error("the machine is gone")]
    Gone,
    /// Its state does not allow it.
    #[error("{0}")]
    NotStartable(String),
    /// The host has no room.
    #[error("{0}")]
    NoCapacity(String),
    /// The start was tried and failed.
    #[error("{0}")]
    Failed(String),
    /// The host could not be asked, or did not answer in time.
    #[error("{0}")]
    Unavailable(String),
}

impl From<HostError> for WakeRefused {
    fn from(err: HostError) -> Self {
        match err {
            HostError::NotFound(_) | HostError::NotMine { .. } | HostError::StaleEpoch { .. } => {
                Self::Gone
            }
            HostError::NoCapacity(why) => Self::NoCapacity(why),
            HostError::Unavailable { message, .. } => Self::Unavailable(message),
            HostError::Busy(why) | HostError::DeadlineExceeded(why) => Self::Unavailable(why),
            other => Self::NotStartable(other.to_string()),
        }
    }
}
