//! The public API, intent and reconcilers.

pub mod ports;
