//! The nftables rules of one machine. [`super::base`] explains their purpose;
//! `tests/rules.rs` has them as text.

use super::base::{self, FlowLimits, MAPS, PARKED, table};
use super::batch::Batch;
use super::expr::Expr;
use super::matches::{
    ACCEPT, DROP, NEIGHBOUR_DISCOVERY, daddr, daddr_of_machine, iifname, rule, saddr, same_family,
};
use crate::config::{Cidr, NetworkConfig, Tag};
use model::address::Slot;
use std::net::{IpAddr, Ipv6Addr};
use worker::ports::Link;

/// Most flows that a guest may begin per second, accepted or not. The
/// kernel frees ended flows that it counts only so fast (before Linux 6.19, nine
/// per tick), and counts flows that are refused for a moment as well.
const NEW_FLOWS: u32 = 1000;

/// Adds the rules of a machine, or replaces them. `mark` distinguishes its flows from
/// those of earlier machines in the slot.
pub(crate) fn add(config: &NetworkConfig, link: &Link, mark: u32, limits: FlowLimits) -> Batch {
    let mut batch = chains_of(config, link, mark, limits);
    connect(&mut batch, config.tag, link.slot);
    clear_parked(&mut batch, config.tag, link.slot);
    batch
}

/// Parks the machine's tap: its rules stay, with fresh counters, but nothing is
/// sent to the tap.
pub(crate) fn park(config: &NetworkConfig, link: &Link, mark: u32, limits: FlowLimits) -> Batch {
    let mut batch = chains_of(config, link, mark, limits);
    connect(&mut batch, config.tag, link.slot);
    batch.add_element(PARKED, &config.tag.tap(link.slot));
    batch
}

/// Ends [`park`]. Fails, and changes nothing, if the rules were deleted, even if
/// they were added again since.
pub(crate) fn unpark(tag: Tag, slot: Slot) -> Batch {
    let mut batch = Batch::new(table(tag));
    batch.delete_element(PARKED, &tag.tap(slot));
    batch
}

/// Removes the rules of a machine, in a table that exists. The kernel has no
/// "delete if it exists", so each object is created first.
pub(crate) fn remove(tag: Tag, slot: Slot) -> Batch {
    let mut batch = Batch::new(table(tag));
    for chain in chains(slot) {
        batch.create_chain(&chain);
    }
    connect(&mut batch, tag, slot);
    for (map, _) in MAPS {
        batch.delete_element(map, &tag.tap(slot));
    }
    clear_parked(&mut batch, tag, slot);
    for chain in chains(slot) {
        batch.flush(&chain);
        batch.delete_chain(&chain);
    }
    batch
}

fn chains_of(config: &NetworkConfig, link: &Link, mark: u32, limits: FlowLimits) -> Batch {
    let mut batch = Batch::new(table(config.tag));
    for chain in chains(link.slot) {
        batch.create_chain(&chain);
        batch.flush(&chain);
    }
    for (part, rule) in rules(config, link, mark, limits) {
        batch.rule(&chain(part, link.slot), &rule);
    }
    batch
}

/// `jump`, never `goto`: packets that a machine's chain does not decide on return
/// to the base chain, which drops them.
fn connect(batch: &mut Batch, tag: Tag, slot: Slot) {
    for (map, part) in MAPS {
        batch.add_jump(map, &tag.tap(slot), &chain(part, slot));
    }
}

/// Removes the tap from the parked ones, whether it is one or not.
fn clear_parked(batch: &mut Batch, tag: Tag, slot: Slot) {
    batch.add_element(PARKED, &tag.tap(slot));
    batch.delete_element(PARKED, &tag.tap(slot));
}

fn chains(slot: Slot) -> impl Iterator<Item = String> {
    MAPS.into_iter().map(move |(_, part)| chain(part, slot))
}

fn chain(part: &str, slot: Slot) -> String {
    format!("{part}_{:04x}", slot.0)
}

fn rules(
    config: &NetworkConfig,
    link: &Link,
    mark: u32,
    limits: FlowLimits,
) -> Vec<(&'static str, Vec<Expr>)> {
    let own = link.addresses;
    let from_tap = iifname(&config.tag.tap(link.slot));
    let marked = [Expr::CtMark, Expr::equal(&mark.to_ne_bytes()), ACCEPT];
    let limits = [
        vec![Expr::Limit { per_second: NEW_FLOWS.into(), burst: NEW_FLOWS }],
        vec![Expr::ConnLimit(limits.of_one)],
        base::all_flows(limits.of_all),
    ];
    // During duplicate address detection a guest has no address yet; to resolve
    // a neighbour it may use the link-local address of its MAC. Any other would
    // fill the neighbour table, which all machines share.
    let discovery = [Ipv6Addr::UNSPECIFIED, link_local(own.mac)];
    // What `net` accepts needs no state: entries of the connection table would be
    // neither counted nor marked.
    let to_peers = [daddr(network_of(own.ipv6)), daddr_of_machine()].map(same_family).concat();
    let mut rules = vec![
        ("pin", rule(&[&source(own.ipv4.into()), &[ACCEPT]])),
        ("pin", rule(&[&source(own.ipv6.into()), &to_peers, &[Expr::NoTrack, ACCEPT]])),
        ("pin", rule(&[&source(own.ipv6.into()), &[ACCEPT]])),
    ];
    rules.extend(
        discovery.map(|address| {
            ("pin", rule(&[&source(address.into()), &NEIGHBOUR_DISCOVERY, &[ACCEPT]]))
        }),
    );
    rules.extend([
        ("pin", DROP.to_vec()),
        ("net", rule(&[&daddr(network_of(own.ipv6)), &[ACCEPT]])),
        ("net", DROP.to_vec()),
        // A flow is counted once, however much it sends before an answer.
        ("new", marked.to_vec()),
    ]);
    // Only flows that the guest begins: the daemon limits its own.
    rules.extend(limits.map(|limit| ("new", rule(&[&from_tap, &limit, &DROP]))));
    rules.extend([
        ("new", vec![Expr::Immediate(mark), Expr::SetCtMark, ACCEPT]),
        // No drop: the calling chain decides.
        ("flow", marked.to_vec()),
    ]);
    rules
}

fn source(address: IpAddr) -> Vec<Expr> {
    saddr(Cidr::single(address))
}

/// The first 48 bits of a 6PN address are its network.
fn network_of(member: Ipv6Addr) -> Cidr {
    Cidr::containing(member.into(), 48)
}

/// The link-local address that follows from a MAC address (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let group = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let host = [group(a ^ 2, b), group(c, 0xff), group(0xfe, d), group(e, f)];
    Ipv6Addr::new(0xfe80, 0, 0, 0, host[0], host[1], host[2], host[3])
}
