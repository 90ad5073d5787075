//! Tokens in the format of <https://github.com/superfly/macaroon>: a list of caveats, each of
//! which restricts what the token permits.
//!
//! - [`Access`]: one thing that a request does, to one resource.
//! - [`Caveat`]: one restriction. A request is permitted if no caveat of a token prohibits it
//!   ([`permits`]).
//!
//! Pure: no I/O, no clock, no randomness.

mod access;
mod action;
mod caveat;
mod denial;
mod prohibit;
mod resources;
mod roles;

pub use access::{Access, Command};
pub use action::Action;
pub use caveat::{Caveat, CommandRule};
pub use denial::{Denial, Kind};
pub use prohibit::permits;
pub use resources::Resources;
pub use roles::Roles;
