//! The parts of the guest's kernel that init sets up or watches: clock and entropy, memory
//! settings, counters, network, files of `/etc`, swap, listening sockets, power off.

pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod kernel_log;
pub(crate) mod listen_events;
pub(crate) mod listeners;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod power;
pub(crate) mod stats;
pub(crate) mod swap;
