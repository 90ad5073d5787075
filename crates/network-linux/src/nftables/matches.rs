//! Conditions of rules, as lists of expressions; each is named as in the
//! language of the `nft` program.

use super::expr::{Bytes, Compare, Expr, Header, Meta, Set, Verdict, interface_name};
use crate::config::Cidr;
use std::net::IpAddr;

pub(super) const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);
/// `counter drop`
pub(super) const DROP: [Expr; 2] = [Expr::Counter, Expr::Verdict(Verdict::Drop)];

/// Joins conditions and actions to a rule.
pub(super) fn rule(parts: &[&[Expr]]) -> Vec<Expr> {
    parts.concat()
}

/// `iifname "name"`
pub(super) fn iifname(name: &str) -> [Expr; 2] {
    [Expr::Meta(Meta::InInterface), Expr::equal(&interface_name(name))]
}

/// `oifname "name"`
pub(super) fn oifname(name: &str) -> [Expr; 2] {
    [Expr::Meta(Meta::OutInterface), Expr::equal(&interface_name(name))]
}

/// `oifname != "name"`
pub(super) fn oifname_not(name: &str) -> [Expr; 2] {
    let value = Bytes::new(&interface_name(name));
    [Expr::Meta(Meta::OutInterface), Expr::Cmp(Compare::NotEqual, value)]
}

/// `iifname "prefix*"`
pub(super) fn iifname_prefix(prefix: &str) -> [Expr; 2] {
    [Expr::Meta(Meta::InInterface), Expr::equal(prefix.as_bytes())]
}

/// `iifname != "prefix*"`
pub(super) fn iifname_not_prefix(prefix: &str) -> [Expr; 2] {
    let value = Bytes::new(prefix.as_bytes());
    [Expr::Meta(Meta::InInterface), Expr::Cmp(Compare::NotEqual, value)]
}

/// `oifname "prefix*"`
pub(super) fn oifname_prefix(prefix: &str) -> [Expr; 2] {
    [Expr::Meta(Meta::OutInterface), Expr::equal(prefix.as_bytes())]
}

/// `oifname != "prefix*"`
pub(super) fn oifname_not_prefix(prefix: &str) -> [Expr; 2] {
    let value = Bytes::new(prefix.as_bytes());
    [Expr::Meta(Meta::OutInterface), Expr::Cmp(Compare::NotEqual, value)]
}

/// `oifname @set`
pub(super) const fn oifname_in(set: Set) -> [Expr; 2] {
    [Expr::Meta(Meta::OutInterface), Expr::Lookup(set)]
}

/// `iifname vmap @map`
pub(super) const fn iifname_vmap(map: Set) -> [Expr; 2] {
    [Expr::Meta(Meta::InInterface), Expr::VerdictMap(map)]
}

/// `oifname vmap @map`
pub(super) const fn oifname_vmap(map: Set) -> [Expr; 2] {
    [Expr::Meta(Meta::OutInterface), Expr::VerdictMap(map)]
}

/// `ct state established,related`
pub(super) const fn ct_established() -> [Expr; 3] {
    ct_state(2 | 4)
}

/// `ct state new`
pub(super) const fn ct_new() -> [Expr; 3] {
    ct_state(8)
}

/// Bits as in `NF_CT_STATE_BIT`.
const fn ct_state(bits: u32) -> [Expr; 3] {
    let zero = Bytes::new(&[0; 4]);
    [
        Expr::CtState,
        Expr::Bitwise(Bytes::new(&bits.to_ne_bytes())),
        Expr::Cmp(Compare::NotEqual, zero),
    ]
}

/// `meta l4proto ...`
pub(super) const fn protocol(number: i32) -> [Expr; 2] {
    [Expr::Meta(Meta::Protocol), Expr::equal(&[number as u8])]
}

/// `tcp dport`, `udp dport`, after the protocol.
pub(super) const fn dport(port: u16) -> [Expr; 2] {
    [
        Expr::Payload { base: Header::Transport, offset: 2, length: 2 },
        Expr::equal(&port.to_be_bytes()),
    ]
}

/// `icmp type`, `icmpv6 type`, after the protocol.
pub(super) const fn icmp_type(number: u8) -> [Expr; 2] {
    [Expr::Payload { base: Header::Transport, offset: 0, length: 1 }, Expr::equal(&[number])]
}

/// `icmpv6 type nd-neighbor-solicit-nd-neighbor-advert ip6 hoplimit 255`, of an
/// IPv6 packet: one that a router forwarded has a smaller hop limit (RFC 4861,
/// section 7.1).
pub(super) const NEIGHBOUR_DISCOVERY: [Expr; 7] = [
    Expr::Meta(Meta::Protocol),
    Expr::equal(&[libc::IPPROTO_ICMPV6 as u8]),
    Expr::Payload { base: Header::Transport, offset: 0, length: 1 },
    Expr::Cmp(Compare::AtLeast, Bytes::new(&[135])),
    Expr::Cmp(Compare::AtMost, Bytes::new(&[136])),
    Expr::Payload { base: Header::Network, offset: 7, length: 1 },
    Expr::equal(&[255]),
];

/// `fib daddr . iif type local`: the address is of the input interface.
pub(super) const TO_OWN_ADDRESS: [Expr; 2] =
    // RTN_LOCAL.
    [Expr::FibAddressType, Expr::equal(&2_u32.to_ne_bytes())];

/// `tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu`
pub(super) const CLAMP_MSS: [Expr; 8] = [
    Expr::Meta(Meta::Protocol),
    Expr::equal(&[libc::IPPROTO_TCP as u8]),
    Expr::Payload { base: Header::Transport, offset: 13, length: 1 },
    Expr::Bitwise(Bytes::new(&[0x02 | 0x04])),
    Expr::equal(&[0x02]),
    Expr::RouteMss,
    Expr::HostToNetwork,
    Expr::SetTcpMaxseg,
];

/// `meta nfproto`
pub(super) const fn family(number: i32) -> [Expr; 2] {
    [Expr::Meta(Meta::Family), Expr::equal(&[number as u8])]
}

/// A condition on an address without that on the family, which an earlier one has.
pub(super) fn same_family(mut condition: Vec<Expr>) -> Vec<Expr> {
    condition.split_off(family(0).len())
}

/// `ip saddr`, `ip6 saddr`
pub(super) fn saddr(cidr: Cidr) -> Vec<Expr> {
    address(cidr, (12, 8), Compare::Equal)
}

/// `ip saddr !=`, `ip6 saddr !=`
pub(super) fn saddr_not(cidr: Cidr) -> Vec<Expr> {
    address(cidr, (12, 8), Compare::NotEqual)
}

/// `ip daddr`, `ip6 daddr`
pub(super) fn daddr(cidr: Cidr) -> Vec<Expr> {
    address(cidr, (16, 24), Compare::Equal)
}

/// `offsets` are those in the IPv4 and the IPv6 header.
fn address(cidr: Cidr, offsets: (u32, u32), compare: Compare) -> Vec<Expr> {
    let (bytes, offset, protocol) = match cidr.address() {
        IpAddr::V4(address) => (address.octets().to_vec(), offsets.0, libc::NFPROTO_IPV4),
        IpAddr::V6(address) => (address.octets().to_vec(), offsets.1, libc::NFPROTO_IPV6),
    };
    let mut rule = family(protocol).to_vec();
    let (whole, bits) = (usize::from(cidr.length() / 8), cidr.length() % 8);
    if cidr.length() == 0 {
        return rule;
    }
    if bits == 0 {
        rule.push(Expr::Payload { base: Header::Network, offset, length: whole as u32 });
        rule.push(Expr::Cmp(compare, Bytes::new(&bytes[..whole])));
        return rule;
    }
    let mut mask = vec![0_u8; bytes.len()];
    mask[..whole].fill(0xff);
    mask[whole] = 0xff << (8 - bits);
    rule.push(Expr::Payload { base: Header::Network, offset, length: bytes.len() as u32 });
    rule.push(Expr::Bitwise(Bytes::new(&mask)));
    rule.push(Expr::Cmp(compare, Bytes::new(&bytes)));
    rule
}

/// `ip6 daddr & ::ffff == ::2`: the last 16 bits are those that a machine has.
pub(super) fn daddr_of_machine() -> Vec<Expr> {
    let (mut mask, mut value) = ([0_u8; 16], [0_u8; 16]);
    mask[14..].fill(0xff);
    value[15] = 2;
    let mut rule = family(libc::NFPROTO_IPV6).to_vec();
    rule.push(Expr::Payload { base: Header::Network, offset: 24, length: 16 });
    rule.push(Expr::Bitwise(Bytes::new(&mask)));
    rule.push(Expr::equal(&value));
    rule
}
