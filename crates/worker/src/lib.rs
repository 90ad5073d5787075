//! One host: one task per machine; owns the ports Hypervisor, Network and Images.

pub mod ports;
