//! Honest fakes of all ports and the contract tests that the real ones pass too.
//!
//! The fakes are what is outside of a daemon: they live on when the daemon that
//! uses them is dropped, as VMs, taps and files do when a process is killed.

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod contract;
pub mod crash;
#[cfg(feature = "store")]
mod crash_store;
mod disks;
pub mod guest;
mod host;
mod hypervisor;
mod images;
mod network;
mod secrets;
pub mod skip;
#[cfg(feature = "store")]
pub mod store;
pub mod timing;
mod world;

pub use contract::{
    Subject, create_machine, host_api_contract, hypervisor_contract, hypervisor_snapshot_contract,
    hypervisor_template_contract, images_contract, network_contract, quiesce_guest,
    stopping_host_contract,
};
pub use crash::CrashPoints;
#[cfg(feature = "store")]
pub use crash_store::CrashStore;
pub use disks::FakeDisks;
pub use host::{FakeHost, Pause, Reach};
pub use hypervisor::{FakeHypervisor, Fault, GuestListener};
pub use images::FakeImages;
pub use network::FakeNetwork;
pub use secrets::secrets_key;
pub use world::{Ledger, World};
