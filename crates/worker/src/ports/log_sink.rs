//! The port to a receiver of exported log lines.

use super::PortError;
use async_trait::async_trait;
use std::time::Duration;
use wire::logs::LogEntry;

/// A line that is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedLine {
    /// The line.
    pub entry: LogEntry,
    /// Name of its app.
    pub app: String,
}

/// Bounds of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Lines, at least one.
    pub lines: usize,
    /// Bytes of their messages; a single line may have more.
    pub bytes: usize,
    /// How long lines wait for others that are delivered with them.
    pub wait: Duration,
    /// How long a delivery may take.
    pub timeout: Duration,
}

/// A receiver of log lines, such as a Loki server.
///
/// Every implementation has to take lines again that it has been given before: a delivery whose
/// outcome is not known is repeated.
#[async_trait]
pub trait LogSink: Send + Sync + 'static {
    /// Its name in the settings, which its progress is stored under.
    fn name(&self) -> &str;

    /// Bounds of one delivery.
    fn limits(&self) -> BatchLimits;

    /// Delivers lines, in their order within each log. Returns once the receiver has taken them;
    /// of a protocol without acknowledgements once the kernel of the receiver has. The future
    /// may be dropped.
    async fn send(&self, lines: &[ExportedLine]) -> Result<Taken, SendError>;
}

/// What a receiver has done with a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Lines that it has refused: no repetition helps.
    pub refused: u64,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiver cannot take it now, or does not let us in: it is tried again.
    #[error(transparent)]
    Unavailable(PortError),
    /// The receiver will never take these lines as they are.
    #[error(transparent)]
    Refused(PortError),
}
