//! WireGuard peers of organizations: what a client is given so that it can establish a tunnel
//! into a network of an organization.
//!
//! - `gateway`: the endpoint of tunnels and its key, as clients are given them.
//! - `add`, `remove`, `read`: operations on the records of peers. `rules` has what a peer may be.
//!
//! Tunnels carry nothing yet: the endpoint accepts the connection of Fly's command line client and
//! discards what it sends. So only peers of that client's agent are added, which establishes a
//! tunnel for commands that never use it.
//!
//! Invariant: a peer has a number that no peer had before, so that no two peers ever have the same
//! address. Its record and the entry of its address are written and deleted in one transaction.

mod add;
mod gateway;
mod read;
mod remove;
mod rules;

pub(crate) use add::{AddPeer, Added, add};
pub use gateway::{BadGatewayKey, Gateway, GatewayKey};
pub(crate) use read::{get, invalid_addresses, list};
pub(crate) use remove::{remove, remove_all};
