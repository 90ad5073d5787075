//! Every address a machine has.
//!
//! The 6PN address follows from the machine's network and its *number*, which
//! the store gives to it for life: it stays the same over stops, starts and
//! moves to other hosts. The private IPv4 address follows from the machine's
//! *slot*, a small number that its host gives to it and takes back some time
//! after it is destroyed; it is the host's private matter.
//!
//! # The layout of a 6PN address
//!
//! ```text
//! fdaa (16) : network (32) : machine, high half (32) : machine, low half (32) : free (16)
//! ```
//!
//! as Fly documents it (<https://fly.io/docs/networking/private-networking/>),
//! except that the bits that name a host there are the high half of the
//! machine's number here: an address must not change when a machine moves.
//!
//! WireGuard peers have addresses of the same form: their numbers have the highest bit set,
//! which no machine's number has ([`PeerNumber`]).

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
    /// The guest's 6PN address; its prefix is /112.
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
    pub const fn new(base: Ipv4Addr, prefix: u8) -> Option<Self> {
        let fits = 8 <= prefix && prefix <= Self::BLOCK;
        if fits && base.to_bits() & (u32::MAX >> prefix) == 0 {
            Some(Self { base, prefix })
        } else {
            None
        }
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

/// Number of a machine in its platform, 64 bits, given by the store for life.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct MachineNumber(pub u64);

impl MachineNumber {
    /// Numbers below belong to machines that were made when addresses still
    /// held the number of their host (16 bits) and their slot there.
    pub const FIRST_ALLOCATED: u64 = 1 << 48;

    /// Numbers from here on belong to WireGuard peers.
    const FIRST_OF_PEERS: u64 = 1 << 63;

    /// The `n`th number that the store gives away; `None` once all are used.
    pub fn allocated(n: u64) -> Option<Self> {
        let number = Self::FIRST_ALLOCATED.checked_add(n)?;
        (number < Self::FIRST_OF_PEERS).then_some(Self(number))
    }

    /// The number of a machine that was made by `host` in `slot` before numbers
    /// came from the store. Its addresses stay what they were.
    pub fn of_slot(host: HostId, slot: Slot) -> Self {
        Self((u64::from(host.0) << 32) | (u64::from(slot.0) + 1))
    }

    /// Locally administered unicast address of its network card, the same for
    /// life: a suspended guest finds the card that it knew.
    pub fn mac(self) -> [u8; 6] {
        let [_, _, h0, h1, n0, n1, n2, n3] = self.0.to_be_bytes();
        if self.0 < Self::FIRST_ALLOCATED {
            let [s0, s1] = (self.0 as u16).wrapping_sub(1).to_be_bytes();
            return [0x02, 0x75, h0, h1, s0, s1];
        }
        [0x02, 0x76, n0, n1, n2, n3]
    }

    /// Its block of the network: `last` is 1 for the host's end, 2 for the guest.
    fn ipv6(self, network: NetworkId, last: u16) -> Ipv6Addr {
        let bits = (0xfdaa_u128 << 112)
            | (u128::from(network.0) << 80)
            | (u128::from(self.0) << 16)
            | u128::from(last);
        Ipv6Addr::from_bits(bits)
    }
}

/// Number of a WireGuard peer in its platform, given by the store and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerNumber(pub u32);

/// Prefix length of the addresses that belong to a WireGuard peer: clients send from the first
/// of them, whatever the last byte of their own address is.
pub const PEER_PREFIX: u8 = 120;

/// The 6PN address of a WireGuard peer of `network`. It is in no machine's block.
pub fn of_peer(network: NetworkId, number: PeerNumber) -> Ipv6Addr {
    let block = MachineNumber(MachineNumber::FIRST_OF_PEERS | u64::from(number.0));
    block.ipv6(network, 2)
}

/// The network of a 6PN address, from its first 48 bits; `None` for other addresses.
pub fn network_of(address: Ipv6Addr) -> Option<NetworkId> {
    let bits = address.to_bits();
    let network = u32::try_from((bits >> 80) & u128::from(u32::MAX)).ok()?;
    (bits >> 112 == 0xfdaa).then_some(NetworkId(network))
}

/// The addresses of machine `number` of `network` in `slot` of its host, or
/// `None` if the pool ends before it.
pub fn of_machine(
    pool: Ipv4Pool,
    slot: Slot,
    network: NetworkId,
    number: MachineNumber,
) -> Option<Addresses> {
    let offset = u32::from(slot.0);
    if offset >= pool.machines() {
        return None;
    }
    let block = pool.base.to_bits() + offset * 4;
    Some(Addresses {
        ipv4: Ipv4Addr::from_bits(block + 2),
        ipv4_gateway: Ipv4Addr::from_bits(block + 1),
        ipv6: number.ipv6(network, 2),
        ipv6_gateway: number.ipv6(network, 1),
        mac: number.mac(),
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
        let of_slot = |slot| {
            let number = MachineNumber::of_slot(HostId(1), Slot(slot));
            of_machine(pool, Slot(slot), NetworkId(7), number)
        };
        let first = of_slot(0).unwrap();
        assert_eq!(first.ipv4.to_string(), "172.30.0.2");
        assert_eq!(first.ipv4_gateway.to_string(), "172.30.0.1");
        assert_eq!(uncompressed(first.ipv6), "fdaa:0:7:0:1:0:1:2");
        let last = of_slot(16383).unwrap();
        assert_eq!(last.ipv4.to_string(), "172.30.255.254");
        assert_eq!(of_slot(16384), None);
        assert_ne!(first.mac, last.mac);
    }

    #[test]
    fn numbers_of_the_store_never_meet_those_of_slots() {
        let last_of_slots = MachineNumber::of_slot(HostId(u16::MAX), Slot(u16::MAX));
        let first = MachineNumber::allocated(0).unwrap();
        assert!(last_of_slots < first, "{last_of_slots:?} {first:?}");
        assert_ne!(last_of_slots.mac()[..2], first.mac()[..2]);
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
        let at = |n| of_machine(pool, Slot(3), NetworkId(7), MachineNumber::allocated(n).unwrap());
        assert_eq!(uncompressed(at(5).unwrap().ipv6), "fdaa:0:7:1:0:0:5:2");
        assert_ne!(at(5).unwrap().ipv6, at(6).unwrap().ipv6);
        assert_eq!(MachineNumber::allocated(u64::MAX), None);
    }

    #[test]
    fn peers_never_meet_machines() {
        let at = |n| of_peer(NetworkId(7), PeerNumber(n));
        assert_eq!(uncompressed(at(1)), "fdaa:0:7:8000:0:0:1:2");
        assert_eq!(uncompressed(at(u32::MAX)), "fdaa:0:7:8000:0:ffff:ffff:2");
        // The 120 bits of each peer are its own.
        let prefix = |address: Ipv6Addr| address.to_bits() >> (128 - PEER_PREFIX);
        assert_ne!(prefix(at(1)), prefix(at(2)));
        // The last number that a machine can have is below.
        let room = MachineNumber::FIRST_OF_PEERS - MachineNumber::FIRST_ALLOCATED;
        let last = MachineNumber::allocated(room - 1).unwrap();
        assert!(last.ipv6(NetworkId(7), u16::MAX) < at(0));
        assert_eq!(MachineNumber::allocated(room), None);
        // Nor are they the name server's, which is `<prefix>::3`.
        assert_ne!(prefix(at(0)), prefix("fdaa:0:7::3".parse().unwrap()));
    }

    #[test]
    fn the_network_of_an_address() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("fdaa:0:7:8000::1:2"), Some(NetworkId(7)));
        assert_eq!(of("fdaa:1:0::3"), Some(NetworkId(65536)));
        assert_eq!(of("fdab:0:7::3"), None);
    }

    #[test]
    fn pools_that_are_refused() {
        assert_eq!(Ipv4Pool::new(Ipv4Addr::new(10, 0, 0, 1), 16), None);
        assert_eq!(Ipv4Pool::new(Ipv4Addr::new(10, 0, 0, 0), 31), None);
        assert_eq!(Ipv4Pool::new(Ipv4Addr::new(10, 0, 0, 0), 7), None);
    }
}
