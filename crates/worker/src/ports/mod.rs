//! The ports: what the worker needs of the hypervisor, network, images and disks.

mod api;
mod connector;
mod disks;
mod hypervisor;
mod images;
mod log_sink;
mod name_servers;
mod network;

pub use api::*;
pub use connector::*;
pub use disks::*;
pub use hypervisor::*;
pub use images::*;
pub use log_sink::*;
pub use name_servers::NameServers;
pub use network::*;

/// Why an adapter could not do what was asked: what was attempted, with
/// the causes as its sources.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct PortError {
    /// The operation that was attempted, for the operator.
    pub attempted: String,
    /// Whether trying again may help.
    pub transient: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    /// `attempted` failed because of `source`.
    pub fn new(
        attempted: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { attempted: attempted.into(), transient: false, source: Some(source.into()) }
    }

    /// `problem` with no deeper cause.
    pub fn plain(problem: impl Into<String>) -> Self {
        Self { attempted: problem.into(), transient: false, source: None }
    }

    /// The same, marked as worth another try.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}
