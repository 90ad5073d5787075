//! The worker's disks on Linux file systems.
//!
//! [`ScratchDisks`] makes the writable disk of each boot from templates;
//! [`Space`] accounts what these disks may still grow by against the free space
//! of the file system, and keeps a reserve for the databases of the daemon;
//! disks of volumes are made by `volumes`;
//! [`LinuxDisks`] is the worker's port on both. [`checks`] is for `doctor`.

pub mod checks;
mod deadline;
mod disk_pool;
mod disks;
mod mkfs;
mod reflink;
mod scratch;
mod space;
mod volumes;

pub use disks::LinuxDisks;
pub use scratch::{ScratchDisk, ScratchDisks};
pub use space::{Space, SpaceConfig};
