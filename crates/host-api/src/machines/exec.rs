//! Commands that run in a guest.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::MachineId;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
pub use wire::exec::ExecStart;
use wire::exec::TermSize;

/// Commands that run in a guest.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Runs a command in the guest. Dropping the session kills the command.
    /// A machine that is starting is waited for, until the deadline.
    async fn exec(
        &self,
        context: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError>;
}

/// A command that runs in a guest. Both channels are bounded; a slow client
/// slows the command, nothing else. Dropping both ends the command.
#[derive(Debug)]
pub struct ExecSession {
    /// To the command.
    pub input: mpsc::Sender<ExecInput>,
    /// From the command; `Exited` or `Failed` is the last.
    pub output: mpsc::Receiver<ExecOutput>,
}

/// Client to command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecInput {
    /// Input; empty means end of input.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// New size of the terminal.
    Resize(TermSize),
    /// Signal, Linux number.
    Signal(i32),
}

/// Command to client; `Exited` or `Failed` is the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecOutput {
    /// Standard output, or the terminal.
    Stdout(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Standard error.
    Stderr(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It has ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Signal that ended it, or 0.
        signal: i32,
    },
    /// It could not be run, or its end is not known.
    Failed(ExecError),
}

/// Why a command could not be run, or why its end is not known. The texts are for
/// users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ExecError {
    /// The guest has no such program.
    #[error("{0}")]
    NotFound(String),
    /// The program is there and cannot be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// The guest refused it for another reason, such as a user that it does not know.
    #[error("{0}")]
    Refused(String),
    /// Its arguments and environment are larger than a guest takes.
    #[error("{0}")]
    TooLarge(String),
    /// As many commands run in the machine as may.
    #[error("{0}")]
    Busy(String),
    /// The guest's init is of a version that the host cannot send commands to.
    #[error("{0}")]
    Unsupported(String),
    /// The guest did not take the command, or did not end it, in time.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The guest does not keep to the protocol.
    #[error("{0}")]
    Malformed(String),
    /// The machine or its host went away while the command ran.
    #[error("{0}")]
    Lost(String),
}
