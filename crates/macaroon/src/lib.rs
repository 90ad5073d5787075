//! Tokens in the format of <https://github.com/superfly/macaroon>: a list of caveats, each of
//! which restricts what the token permits.
//!
//! - [`Access`]: one thing that a request does, to one resource.
//! - [`Caveat`]: one restriction. A request is permitted if no caveat of a token prohibits it
//!   ([`permits`]).
//! - [`Macaroon`]: the token itself, which its holder can narrow without its key.
//! - [`caveats_from_json`] and [`caveats_to_json`]: the form that people read and write.
//!
//! Pure: no I/O, no clock, no randomness.

mod access;
mod action;
mod body;
mod caveat;
mod denial;
#[cfg(test)]
mod fuzz_tests;
mod json;
mod msgpack;
mod prohibit;
mod resources;
mod roles;
mod token;

pub use access::{Access, Command};
pub use action::Action;
pub use body::NotEncodable;
pub use caveat::{Caveat, CommandRule};
pub use denial::{Denial, Kind};
pub use json::{caveats_from_json, caveats_to_json};
pub use prohibit::permits;
pub use resources::Resources;
pub use roles::Roles;
pub use token::{LOCATION, Macaroon, Malformed, derive_key};
