//! The nftables rules of one machine, as changes over netlink. What they are
//! for is told in [`crate::ruleset`]; `tests/rules.rs` has them as text.

use crate::config::{NetworkConfig, Tag};
use crate::expr::{Compare, Expr, Header, Meta, Verdict};
use crate::netfilter::Batch;
use crate::ruleset::{MAPS, RESTING, table};
use model::address::Slot;
use std::net::{IpAddr, Ipv6Addr};
use worker::ports::Link;

/// Most flows that a guest may begin per second, whatever becomes of them. The
/// kernel lets go of ended flows that it counts only so fast (before Linux 6.19,
/// nine per tick), and counts those that are refused for a moment as well.
const NEW_FLOWS: u32 = 1000;

const DROP: [Expr; 2] = [Expr::Counter, Expr::Verdict(Verdict::Drop)];
const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);

/// Adds what one machine has; `mark` tells its flows from those of any earlier
/// attachment. Applied again, it replaces what is there.
pub(crate) fn add(config: &NetworkConfig, link: &Link, mark: u32) -> Batch {
    let mut batch = filled(config, link, mark);
    connect(&mut batch, config.tag, link.slot);
    stir(&mut batch, config.tag, link.slot);
    batch
}

/// The machine rests: its rules stay, with their counts begun anew, but nothing
/// goes to its tap.
pub(crate) fn rest(config: &NetworkConfig, link: &Link, mark: u32) -> Batch {
    let mut batch = filled(config, link, mark);
    connect(&mut batch, config.tag, link.slot);
    batch.member(RESTING, &config.tag.tap(link.slot));
    batch
}

/// The end of [`rest`]. Fails, whole, if the rules are gone, or were and are
/// made anew.
pub(crate) fn wake(tag: Tag, slot: Slot) -> Batch {
    let mut batch = Batch::new(table(tag));
    batch.delete_member(RESTING, &tag.tap(slot));
    batch
}

/// Removes what there is of a machine, in a table that exists: the kernel knows
/// no "if it is there", so it is made first.
pub(crate) fn forget(tag: Tag, slot: Slot) -> Batch {
    let mut batch = Batch::new(table(tag));
    for chain in chains(slot) {
        batch.chain(&chain);
    }
    connect(&mut batch, tag, slot);
    for (map, _) in MAPS {
        batch.delete_member(map, &tag.tap(slot));
    }
    stir(&mut batch, tag, slot);
    for chain in chains(slot) {
        batch.flush(&chain);
        batch.delete_chain(&chain);
    }
    batch
}

fn filled(config: &NetworkConfig, link: &Link, mark: u32) -> Batch {
    let mut batch = Batch::new(table(config.tag));
    for chain in chains(link.slot) {
        batch.chain(&chain);
        batch.flush(&chain);
    }
    for (part, rule) in rules(config, link, mark) {
        batch.rule(&chain(part, link.slot), &rule);
    }
    batch
}

/// `jump`, never `goto`: what a machine's chain leaves undecided comes back to
/// the base's drop.
fn connect(batch: &mut Batch, tag: Tag, slot: Slot) {
    for (map, part) in MAPS {
        batch.jump(map, &tag.tap(slot), &chain(part, slot));
    }
}

/// It does not rest, whether it did or not.
fn stir(batch: &mut Batch, tag: Tag, slot: Slot) {
    batch.member(RESTING, &tag.tap(slot));
    batch.delete_member(RESTING, &tag.tap(slot));
}

fn chains(slot: Slot) -> impl Iterator<Item = String> {
    MAPS.into_iter().map(move |(_, part)| chain(part, slot))
}

fn chain(part: &str, slot: Slot) -> String {
    format!("{part}_{:04x}", slot.0)
}

fn rules(config: &NetworkConfig, link: &Link, mark: u32) -> Vec<(&'static str, Vec<Expr>)> {
    let own = link.addresses;
    let begun = Expr::comes_from(&config.tag.tap(link.slot));
    let marked = [Expr::FlowMark, Expr::is(&mark.to_ne_bytes()), ACCEPT];
    let limits = [
        Expr::Faster { per_second: NEW_FLOWS.into(), burst: NEW_FLOWS },
        Expr::MoreFlows(config.max_flows),
    ];
    // A guest that asks whether its address is free has none yet; one that asks
    // for its neighbour may use the link-local address of its MAC. Any other
    // would fill the neighbour table, which all machines share.
    let strangers = [Ipv6Addr::UNSPECIFIED, link_local(own.mac)];
    let mut rules = vec![
        ("pin", [&source(own.ipv4.into())[..], &[ACCEPT]].concat()),
        ("pin", [&source(own.ipv6.into())[..], &[ACCEPT]].concat()),
    ];
    rules.extend(
        strangers.map(|own| {
            ("pin", [&source(own.into())[..], &NEIGHBOUR_DISCOVERY, &[ACCEPT]].concat())
        }),
    );
    rules.extend([
        ("pin", DROP.to_vec()),
        ("net", [&to_network(own.ipv6)[..], &[ACCEPT]].concat()),
        ("net", DROP.to_vec()),
        // Counted once, however much it sends before an answer.
        ("new", marked.to_vec()),
    ]);
    // Only what the guest begins: the host decides for itself.
    rules.extend(limits.map(|limit| ("new", [&begun[..], &[limit], &DROP].concat())));
    rules.extend([
        ("new", vec![Expr::Load(mark), Expr::SetFlowMark, ACCEPT]),
        // No drop: what follows depends on where it was asked.
        ("flow", marked.to_vec()),
    ]);
    rules
}

fn family(is: i32) -> [Expr; 2] {
    [Expr::Meta(Meta::Family), Expr::is(&[is as u8])]
}

/// `ip saddr`, `ip6 saddr`.
fn source(address: IpAddr) -> Vec<Expr> {
    let at = |offset, length| Expr::Packet { from: Header::Network, offset, length };
    match address {
        IpAddr::V4(own) => {
            [&family(libc::NFPROTO_IPV4)[..], &[at(12, 4), Expr::is(&own.octets())]].concat()
        }
        IpAddr::V6(own) => {
            [&family(libc::NFPROTO_IPV6)[..], &[at(8, 16), Expr::is(&own.octets())]].concat()
        }
    }
}

/// `ip6 daddr`, the first 48 bits: a 6PN network.
fn to_network(member: Ipv6Addr) -> Vec<Expr> {
    let read = Expr::Packet { from: Header::Network, offset: 24, length: 6 };
    [&family(libc::NFPROTO_IPV6)[..], &[read, Expr::is(&member.octets()[..6])]].concat()
}

/// `icmpv6 type nd-neighbor-solicit-nd-neighbor-advert ip6 hoplimit 255`, of what
/// is IPv6.
const NEIGHBOUR_DISCOVERY: [Expr; 7] = [
    Expr::Meta(Meta::Protocol),
    byte(Compare::Equal, libc::IPPROTO_ICMPV6 as u8),
    Expr::Packet { from: Header::Transport, offset: 0, length: 1 },
    byte(Compare::AtLeast, 135),
    byte(Compare::AtMost, 136),
    Expr::Packet { from: Header::Network, offset: 7, length: 1 },
    byte(Compare::Equal, 255),
];

const fn byte(how: Compare, what: u8) -> Expr {
    let mut bytes = [0; 16];
    bytes[0] = what;
    Expr::Is { how, what: bytes, length: 1 }
}

/// The address that a card gives itself (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let group = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let host = [group(a ^ 2, b), group(c, 0xff), group(0xfe, d), group(e, f)];
    Ipv6Addr::new(0xfe80, 0, 0, 0, host[0], host[1], host[2], host[3])
}
