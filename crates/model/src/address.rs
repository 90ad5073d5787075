//! Every address a machine has, from its network, its host and its slot.
//!
//! A slot is a small number, unique among the machines of one host; the host
//! hands it out when the machine is created and takes it back when the machine
//! is forgotten. Addresses are therefore the same over stops and starts.

use crate::id::{HostId, NetworkId};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Number of a machine among those of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// IPv4 prefix that a host cuts into blocks of four, one per machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Pool {
    base: Ipv4Addr,
    prefix: u8,
}

/// Everything a machine's network card needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The guest's private IPv4 address; its prefix is /30.
    pub ipv4: Ipv4Addr,
    /// The host's end of the tap and the guest's default gateway.
    pub ipv4_gateway: Ipv4Addr,
    /// The guest's 6PN address (N001); its prefix is /112.
    pub ipv6: Ipv6Addr,
    /// The host's end, ending in `::1`.
    pub ipv6_gateway: Ipv6Addr,
    /// Locally administered, unicast.
    pub mac: [u8; 6],
}

impl Ipv4Pool {
    /// Prefix length of one machine's block.
    pub const BLOCK: u8 = 30;

    /// A pool from its first address and prefix length, 8 to 30.
    /// `None` if the length is out of range or bits are set behind it.
    pub fn new(base: Ipv4Addr, prefix: u8) -> Option<Self> {
        let fits = (8..=Self::BLOCK).contains(&prefix);
        (fits && base.to_bits() & (u32::MAX >> prefix) == 0).then_some(Self { base, prefix })
    }

    /// Machines this pool has room for.
    pub fn machines(self) -> u32 {
        1 << (Self::BLOCK - self.prefix)
    }

    /// First address and prefix length.
    pub fn cidr(self) -> (Ipv4Addr, u8) {
        (self.base, self.prefix)
    }
}

/// Prefix length of a machine's 6PN block.
pub const IPV6_BLOCK: u8 = 112;

/// The addresses of the machine in `slot`, or `None` if the pool ends before it.
pub fn plan(pool: Ipv4Pool, network: NetworkId, host: HostId, slot: Slot) -> Option<Addresses> {
    let number = u32::from(slot.0);
    if number >= pool.machines() {
        return None;
    }
    let block = pool.base.to_bits() + number * 4;
    // N001: fdaa(16) : network(32) : host(32) : machine(32) : free(16).
    let ipv6 = |last: u128| {
        let bits = (0xfdaa_u128 << 112)
            | (u128::from(network.0) << 80)
            | (u128::from(host.0) << 48)
            | (u128::from(number + 1) << 16)
            | last;
        Ipv6Addr::from_bits(bits)
    };
    let [h0, h1] = host.0.to_be_bytes();
    let [s0, s1] = slot.0.to_be_bytes();
    Some(Addresses {
        ipv4: Ipv4Addr::from_bits(block + 2),
        ipv4_gateway: Ipv4Addr::from_bits(block + 1),
        ipv6: ipv6(2),
        ipv6_gateway: ipv6(1),
        mac: [0x02, 0x75, h0, h1, s0, s1],
    })
}

/// The address in full, eight groups: clients split it on `:` and want eight.
pub fn uncompressed(address: Ipv6Addr) -> String {
    address.segments().map(|group| format!("{group:x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_two_machines() {
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
        let first = plan(pool, NetworkId(7), HostId(1), Slot(0)).unwrap();
        assert_eq!(first.ipv4.to_string(), "172.30.0.2");
        assert_eq!(first.ipv4_gateway.to_string(), "172.30.0.1");
        assert_eq!(uncompressed(first.ipv6), "fdaa:0:7:0:1:0:1:2");
        let last = plan(pool, NetworkId(7), HostId(1), Slot(16383)).unwrap();
        assert_eq!(last.ipv4.to_string(), "172.30.255.254");
        assert_eq!(plan(pool, NetworkId(7), HostId(1), Slot(16384)), None);
        assert_ne!(first.mac, last.mac);
    }

    #[test]
    fn pools_that_are_refused() {
        assert_eq!(Ipv4Pool::new(Ipv4Addr::new(10, 0, 0, 1), 16), None);
        assert_eq!(Ipv4Pool::new(Ipv4Addr::new(10, 0, 0, 0), 31), None);
        assert_eq!(Ipv4Pool::new(Ipv4Addr::new(10, 0, 0, 0), 7), None);
    }
}
