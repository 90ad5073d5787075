//! The host: its registry of machines, its start and recovery, and the calls that
//! others make on it (`*_calls` by caller, `images`, `usage`).

mod edge_calls;
mod images;
mod machine_calls;
mod recovery;
mod registry;
mod start;
mod start_error;
mod usage;

pub use registry::Worker;
pub use start_error::StartError;
