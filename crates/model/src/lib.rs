//! The rules, pure: no async, no I/O, no clock, no randomness. Ids, and the statuses and strategies of
//! releases, are written as text, so that records and messages can hold them; nothing else is serialized.
//!
//! - [`id`]: names and numbers of things, each its own type.
//! - [`life`]: the life of a machine as one table.
//! - [`release`]: the life of a release as one table, and its strategies.
//! - [`restart`]: when an ended process is started again, and after how long.
//! - [`autostop`]: which idle machine the edge stops.
//! - [`address`]: every address a machine has, from its numbers.
//! - [`check`]: health checks, from single results to a status.
//! - [`schedule`]: when a machine runs next.
//! - [`size`]: guest presets, what sizes are allowed, and the CPU time of shared vCPUs.
//! - [`region`]: what codes of regions stand for, and groups of them.
//! - [`name`]: generated machine names.
//! - [`lease`]: which caller may change a leased machine.
//! - [`signal`]: Linux signals by name and number.
//! - [`volume`]: the life of volumes, their names and sizes.

pub mod address;
pub mod autostop;
pub mod check;
#[cfg(test)]
mod fuzz_tests;
pub mod id;
pub mod lease;
pub mod life;
pub mod name;
pub mod region;
pub mod release;
pub mod restart;
pub mod schedule;
pub mod signal;
pub mod size;
pub mod volume;
