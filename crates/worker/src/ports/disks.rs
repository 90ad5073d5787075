//! The port to writable disks.

use super::PortError;
use async_trait::async_trait;
use camino::Utf8Path;

/// What the worker needs of the host's disks, and nothing more.
#[async_trait]
pub trait Disks: Send + Sync + 'static {
    /// Makes a fresh, sparse ext4 image of `bytes` at `path`, replacing what is
    /// there. After an error nothing is there.
    async fn create(&self, path: &Utf8Path, bytes: u64) -> Result<(), PortError>;
}
