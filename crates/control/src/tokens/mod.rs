//! API tokens: who has one, and what it permits. The store keeps their hashes only.

mod admin;
mod current;
mod find;
mod scope;

pub use admin::install_admin_token;
pub(crate) use current::current;
pub use find::is_valid;
pub(crate) use find::{Found, Invalid, find};
