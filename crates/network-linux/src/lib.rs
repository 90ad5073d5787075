//! The worker's network on Linux: taps, addresses, nftables rules, a namespace.
//!
//! All of a platform is in a network namespace of its own, joined to the daemon's
//! by one link. A machine has a tap that the namespace routes; there is no
//! bridge, so a guest shares no segment with any other:
//!
//! ```text
//!               platform's namespace                    daemon's namespace
//!  guest eth0 ---- tap ud<tag><slot> ---- routing ---- uplink === ud<tag>-host ---- routing
//!  172.30.0.30/30       .29/30               |         masqueraded             masqueraded
//!  fdaa:…:2/112         fdaa:…:1/112         +---- other taps, 6PN only
//! ```
//!
//! The traffic that a guest may send is decided inside the namespace, by the rules of
//! `nftables::base`: firewall tools of the host cannot reach them. Sockets to
//! guests are made by [`NamespaceSockets`]; all others stay in the daemon's
//! namespace.
//!
//! After `remove_all`, `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`
//! of the host keep the value 1, since other software may rely on them by then;
//! and uplinks that learn their route from router advertisements keep `accept_ra`
//! 2 (see [`LinuxNetwork`]).

pub mod checks;
mod config;
mod interface;
mod namespace;
mod netlink;
mod network;
mod nftables;
mod owner;
mod taps;

pub use config::{BadConfig, Cidr, NetworkConfig, Tag, pool_slice};
pub use namespace::NamespaceSockets;
pub use network::LinuxNetwork;
