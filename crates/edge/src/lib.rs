//! The proxy: match a route, wake, balance, forward.

pub mod ports;
