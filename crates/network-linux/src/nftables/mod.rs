//! nftables over netlink, without the `nft` program: expressions, batches and
//! the client that applies them, and the three sets of rules that we have:
//! `base` (what all machines share), `machine` (one machine's), `uplink` (the
//! host's end of the namespace's link). `docs/rfd/0007-nftables-by-netlink.md`
//! explains why there is an encoder of our own.

pub(crate) mod base;
mod batch;
mod client;
mod expr;
pub(crate) mod machine;
mod matches;
pub(crate) mod uplink;

pub(crate) use client::{BaseChain, Netfilter};
