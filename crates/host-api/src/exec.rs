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
    /// From the command; `Exited`, `Failed` or `Lost` is the last.
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

/// Command to client; `Exited`, `Failed` or `Lost` is the last.
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
    /// It could not be run.
    Failed(String),
    /// The machine or its host went away while it ran.
    Lost(String),
}
