//! The units of a guest: its main process, or its processes, or its containers. When
//! each is started, restarted and stopped, and when the guest's run is over.
//!
//! `order`, `restart` and `health` decide and do nothing; `checks` and `probe` run health
//! checks; `unit` has one unit, and `supervisor` all of them.

mod checks;
mod health;
mod order;
mod probe;
mod restart;
pub(crate) mod supervisor;
mod unit;
