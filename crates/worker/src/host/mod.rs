//! The host: its registry of machines, its start and recovery, and in `api` the calls
//! that control and edge make on it.

mod api;
mod creates;
mod low_space;
mod reclaims;
mod recovery;
mod registry;
mod retention;
mod start;
mod start_error;
mod unrecorded;
mod uploads;
mod usage;

pub use registry::Worker;
pub use start_error::StartError;
