//! worker::Network and host checks: taps, addresses, nftables.
//!
//! A machine's link is a tap that the host routes; there is no bridge, so a
//! guest shares no segment with anybody:
//!
//! ```text
//!  guest eth0 ---- tap ud<tag><slot> ---- host's routing ---- uplink
//!  172.30.0.30/30       .29/30                 |               masqueraded
//!  fdaa:…:2/112         fdaa:…:1/112           +---- other taps, 6PN only
//! ```
//!
//! What a guest may send is decided by one nftables table of ours (see
//! [`ruleset`]); rules of others are neither read nor touched. Everything
//! happens in the network namespace of the calling thread.
//!
//! What stays on the host after `remove_all`: `net.ipv4.ip_forward` and
//! `net.ipv6.conf.all.forwarding` keep the value 1, since somebody else may
//! have come to rely on them; and uplinks that learn their route from router
//! advertisements keep `accept_ra` 2 (see [`LinuxNetwork`]).

pub mod checks;
mod config;
mod expr;
mod host;
mod kept;
mod links;
mod machine;
mod netfilter;
mod netlink;
mod network;
mod nft;
pub mod ruleset;
mod sysctl;
mod tap;

pub use config::{BadConfig, Cidr, NetworkConfig, Tag};
pub use network::LinuxNetwork;
