//! The public JSON of the Machines API, field for field.
//!
//! Parts of a config that this version does not know are kept in `extra` at
//! every level and returned unchanged; a field that was absent stays absent.

mod api;
mod checks;
mod config;
mod containers;
mod duration;
mod events;
mod leases;
mod machine;
mod service;

pub use api::*;
pub use checks::*;
pub use config::*;
pub use containers::*;
pub use duration::{Span, parse_go};
pub use events::*;
pub use leases::*;
pub use machine::*;
pub use service::*;

/// Fields of an object that this version does not know, kept as they came.
pub type Extra = serde_json::Map<String, serde_json::Value>;
