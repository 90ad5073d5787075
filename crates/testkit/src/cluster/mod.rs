//! Several hosts in one process, over real connections of `host-remote`.

mod network;

pub use network::SimulatedNetwork;
