//! The public API, intent and reconcilers.
//!
//! - [`ports`]: what is needed of the outer worlds.
//! - [`rules`]: what may be asked for, and where it goes; pure.
//! - [`Api`]: the HTTP routes, and the passes that finish what a crash cut off.
//! - [`guest_api`]: the same routes as a machine reaches them from within.
//!
//! The global store holds names and who owns what; the machines themselves
//! belong to their hosts, and every answer about one comes from its host.

mod api;
pub mod ports;
mod reconcile;
pub(crate) use store::records;
pub mod rules;

pub use api::{Api, ApiConfig, World, guest_api};
