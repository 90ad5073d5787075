//! A platform of several hosts in one process, over real connections of
//! `host-remote`.
//!
//! [`Cluster`] puts it together: workers over a [`World`](crate::World) each
//! ([`SimulatedHost`]), one control plane with its HTTP API over a real store, and
//! one edge. They talk over a [`SimulatedNetwork`], which can be cut, on a
//! [`SimulatedTime`], which can jump. [`GuestApps`] are what requests arrive at.

mod client;
mod followed;
mod guests;
mod host;
mod network;
mod ownership;
mod platform;
mod time;

pub use client::EdgeAnswer;
pub use followed::Followed;
pub use guests::GuestApps;
pub use host::SimulatedHost;
pub use network::SimulatedNetwork;
pub use platform::{Cluster, ClusterOptions};
pub use time::SimulatedTime;
