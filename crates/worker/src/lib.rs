//! One host: one task per machine; owns the ports Hypervisor, Network, Images
//! and Disks.
//!
//! The host owns its machines: `host.db` is the truth about them, and they
//! keep running, restarting and being woken while everything else is down. A
//! request records what is wanted and is answered; the machine's task compares
//! wanted with actual and acts (`machine::step`). The same path serves the
//! happy case, a retry and the recovery after `kill -9`.

mod agent;
mod capacity;
mod db;
mod host;
mod logs;
mod machine;
mod metrics;
pub mod ports;
mod record;
mod routes;
mod templates;

pub use host::{HostConfig, Ports, StartError, Worker};
