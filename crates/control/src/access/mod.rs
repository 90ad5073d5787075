//! What a caller may do.
//!
//! - [`Need`]: what a call needs. Every route of the API is declared with one, so that there is
//!   no route without.
//! - [`Rights`]: what a caller has: those of its tokens. An admin token has all of them, any
//!   other is a list of caveats ([`macaroon`]), whatever the form of its text.
//! - [`authorize`] compares the two before a call reaches its endpoint. Calls about
//!   several records, such as lists, need a valid token only; their operation asks
//!   [`permit`] or [`is_permitted`] for each record that it shows or makes.
//!
//! A record that a caller may not even read does not exist for it (404).

mod authorize;
mod need;
mod permit;
mod rights;

pub(crate) use authorize::{Place, authorize};
pub use need::{Need, Subject};
pub(crate) use need::{control, create, delete, read, write};
pub(crate) use permit::{app_access, base, is_permitted, permit};
pub use rights::{Grant, Rights};
