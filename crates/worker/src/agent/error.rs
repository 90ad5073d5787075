//! Why a session fails.

use guest_protocol::{HIGHEST, LOWEST, MAX_FRAME};
use std::time::Duration;

/// Why there is no session, or why a message was not sent in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Transient: the guest is slow, or has not come so far.
    #[error("guest did not answer within {0:?}")]
    Deadline(Duration),
    /// Permanent, and no fault of the VM: it runs an init of another release. It is
    /// kept and managed through the hypervisor.
    #[error(
        "guest uses version {0} of the agent protocol, this host supports {LOWEST} to {HIGHEST}"
    )]
    Version(u16),
    #[error("agent port failed")]
    Io(#[source] std::io::Error),
    #[error("guest closed its agent port")]
    Closed,
    #[error("guest has been configured already")]
    NotFresh,
    /// The message is not sent; the session continues.
    #[error("message of {0} bytes is larger than {MAX_FRAME}")]
    TooLarge(usize),
}
