//! The port to writable disks and to the space that they take.

use super::PortError;
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use model::volume::FileSystem;

/// The host's disks, as far as the worker needs them.
///
/// A scratch disk is a sparse file: it may grow to its size while the machine
/// runs. The port accounts what all booked disks may still grow by against the
/// free space of the file system, so that a machine is refused instead of
/// filling the disk for all others.
#[async_trait]
pub trait Disks: Send + Sync + 'static {
    /// Makes a fresh, sparse ext4 image of `bytes` at `path`, replacing what is
    /// there. After an error nothing is there. Ends within a deadline of its own
    /// (about a minute); an error after it is transient. One to be `kept` for later boots
    /// is on stable storage before it has its name.
    async fn create(&self, path: &Utf8Path, bytes: u64, kept: bool) -> Result<(), PortError>;

    /// Makes the sparse disk of a volume, of `bytes` and with this file system. It is whole and
    /// on stable storage when this returns; after an error, or a crash, there is none of that
    /// name. One that is there already is an error: no volume is ever overwritten.
    async fn create_volume(
        &self,
        path: &Utf8Path,
        bytes: u64,
        fstype: FileSystem,
    ) -> Result<(), PortError>;

    /// Books space for a disk that may grow to `bytes` at `path`, whether the
    /// file exists yet or not. Booking the same path again replaces its size.
    ///
    /// # Errors
    /// All booked disks together may grow by more than the free space times the
    /// factor for overcommit. The message has the numbers.
    async fn book(&self, path: &Utf8Path, bytes: u64) -> Result<(), PortError>;

    /// Ends the booking of a disk; one that is not booked is fine.
    fn unbook(&self, path: &Utf8Path);

    /// Bytes that can still be written, without the reserve.
    async fn free_space(&self) -> Result<u64, PortError>;

    /// Deletes the reserve file, after a write failed for want of space: what
    /// stops and destroys machines can be recorded then. Returns `false` if
    /// there is no reserve (any more). The reserve comes back by itself once
    /// there is space again.
    async fn release_reserve(&self) -> Result<bool, PortError>;

    /// Waits until free space falls below the low-water mark, and names the
    /// booked disk that has grown most since it was booked or last named here.
    /// Called in a loop by one task; safe to cancel.
    async fn low_space(&self) -> LowSpace;
}

/// The file system of the disks is nearly full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowSpace {
    /// Bytes that can still be written.
    pub free: u64,
    /// The booked disk that has grown most.
    pub disk: Utf8PathBuf,
    /// Bytes by which it has grown.
    pub grown: u64,
}
