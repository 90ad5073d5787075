//! The public JSON of the Machines API, field for field.
//!
//! Parts of a config that this version does not know are kept in `extra` at
//! every level and returned unchanged; a field that was absent stays absent.

mod api;
mod batch;
mod checks;
mod config;
mod events;
mod leases;
mod machine;
mod memory;
mod org;
mod schedule;
mod volumes;

pub use api::*;
pub use batch::*;
pub use checks::*;
pub use config::*;
pub use events::*;
pub use leases::*;
pub use machine::*;
pub use memory::*;
pub use org::*;
pub use schedule::*;
pub use volumes::*;

/// Fields of an object that this version does not know, kept as they came.
pub type Extra = serde_json::Map<String, serde_json::Value>;
