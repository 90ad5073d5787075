//! Why a host refused or failed, as types that a caller can act on.

use model::id::{Epoch, HostId};
use serde::{Deserialize, Serialize};

/// Why a host refused or failed. The texts are for users: what was attempted
/// and why it did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum HostError {
    /// The host has, and had, nothing of that id or name.
    #[error("{0}")]
    NotFound(String),
    /// The machine is not, or no longer, of this host: read its record again.
    #[error("the machine does not belong to host {host}")]
    NotMine {
        /// The host that answers.
        host: HostId,
        /// The epoch at which it gave the machine up, if it had it.
        epoch: Option<Epoch>,
    },
    /// The caller acts on an older ownership than the host knows.
    #[error("the call carries ownership epoch {sent}, but the machine is at epoch {known}")]
    StaleEpoch {
        /// The epoch of the call.
        sent: Epoch,
        /// The epoch that the host knows.
        known: Epoch,
    },
    /// Against the current state of the machine.
    #[error("{0}")]
    Conflict(String),
    /// Another caller holds the machine's lease. The text begins as clients expect it.
    #[error("lease currently held by {owner}, expires at {expires_at}")]
    Leased {
        /// The holder, for people.
        owner: String,
        /// RFC 3339.
        expires_at: String,
    },
    /// The version given is not the current one.
    #[error("{0}")]
    VersionMismatch(String),
    /// Bad input.
    #[error("{0}")]
    Invalid(String),
    /// No room on this host: each constraint that failed, with its numbers.
    #[error("{0}")]
    NoCapacity(String),
    /// The host does this kind of thing too often already; try again later.
    #[error("{0}")]
    Busy(String),
    /// The deadline of the call, or of the wait that was asked for, has passed.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The host, or the guest's init, does not know how to do this.
    #[error("{0}")]
    Unsupported(String),
    /// The host cannot be reached.
    #[error("{message}")]
    Unavailable {
        /// What was tried, and why it failed.
        message: String,
        /// The call may have been carried out: the connection broke after it
        /// had been sent.
        may_have_run: bool,
    },
    /// A defect, or a broken host.
    #[error("{0}")]
    Internal(String),
}

impl HostError {
    /// The host could not be asked; the call has not been carried out.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), may_have_run: false }
    }

    /// The same call may succeed later without any change by the caller.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::DeadlineExceeded(_) | Self::Unavailable { .. })
    }

    /// The caller's record of the machine's owner is out of date.
    pub fn is_about_ownership(&self) -> bool {
        matches!(self, Self::NotMine { .. } | Self::StaleEpoch { .. })
    }
}
