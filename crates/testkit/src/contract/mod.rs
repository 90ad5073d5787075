//! The contracts of the worker's ports and of the API of a host, as tests that
//! every implementation passes.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod calls;
mod host_api;
mod hypervisor;
mod images;
mod leases;
mod memory;
mod network;
mod secrets;
mod stopping;
mod volumes;

pub use calls::create_machine;
pub use host_api::{Subject, host_api_contract};
pub use hypervisor::hypervisor_contract;
pub use images::images_contract;
pub use memory::{hypervisor_snapshot_contract, hypervisor_template_contract, quiesce_guest};
pub use network::network_contract;
pub use stopping::stopping_host_contract;
