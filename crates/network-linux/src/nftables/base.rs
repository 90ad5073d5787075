//! The nftables rules that all machines share, in the platform's namespace.
//!
//! One table `inet updraft_<tag>` has them and the rules of each machine. The
//! shared chains find a machine's own chains through maps keyed by the name of
//! the tap:
//!
//! | map, chain | asked | decides |
//! |---|---|---|
//! | `pins`, `pin_<slot>` | first, about packets from a tap | the source is the machine's own, else drop; to 6PN: not tracked |
//! | `peers`, `net_<slot>` | about packets from tap to tap | the destination is in the machine's 6PN network, else drop |
//! | `news`, `new_<slot>` | about a flow without an answer yet | mark it as this attachment's, drop if the guest has too many |
//! | `flows`, `flow_<slot>` | about all others | accept if the flow is this attachment's |
//!
//! The set `guest_flows` counts the flows of all guests together, so that they leave
//! room in the table for the daemon's connections and for the host's own.
//!
//! The set `parked` has the taps of stopped machines: nothing is sent there, and
//! connections from inside the namespace are reset. To park a tap changes one
//! element of a set, which takes the same time however many machines there are;
//! a change of a map does not, since the kernel looks for loops of jumps.
//!
//! Flows are marked because IPv4 addresses belong to slots: otherwise, packets
//! to a destroyed machine could reach the next one in its slot.
//!
//! The path of a packet, and whether its flow is an entry of the connection table
//! that counts against a guest and goes with its machine (has its mark):
//!
//! | from, to | path | counted | marked |
//! |---|---|---|---|
//! | guest, guest (6PN) | `pin` → `forward` → `from_guest` → `net` | no entry | no entry |
//! | guest, world | `pin` → `forward` → `from_guest` → `egress` → `new`, then `flow` | yes | yes |
//! | guest, its gateway | `pin` → `input` → `new`, then `flow` | yes | yes |
//! | world, guest (answers) | `forward` → `to_guest` → `flow` | – | yes |
//! | daemon, guest | `output` → `new`, then `flow`; back: `pin` → `input` → `flow` | no: the daemon bounds them | yes |
//!
//! The namespace has one other interface, `uplink`. Packets between it and the
//! taps pass only by these rules: the policy of `input` and `forward` is drop.

use super::batch::{
    Batch, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, Hook,
};
use super::expr::{Expr, Set, Verdict};
use super::matches::{
    ACCEPT, CLAMP_MSS, DROP, NEIGHBOUR_DISCOVERY, TO_OWN_ADDRESS, ct_established, ct_new, daddr,
    daddr_of_machine, dport, family, icmp_type, iifname, iifname_not_prefix, iifname_prefix,
    iifname_vmap, oifname, oifname_in, oifname_not_prefix, oifname_prefix, oifname_vmap, protocol,
    rule,
};
use crate::config::{Cidr, NetworkConfig, Tag, parse_slot};
use crate::interface::Route;
use model::address::Slot;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The interface that leads out of the namespace.
pub(crate) const UPLINK: &str = "uplink";

/// Metadata services of cloud providers, which take a guest for the host. AWS,
/// Azure, GCP, Oracle and others; Alibaba; Oracle's and Azure's second addresses;
/// AWS and GCP over IPv6. With them all of 6PN, which never leaves by the uplink.
const METADATA: [&str; 7] = [
    "169.254.0.0/16",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "168.63.129.16/32",
    "fd00:ec2::/32",
    "fd20:ce::/64",
    "fdaa::/16",
];

/// Private networks: RFC 1918, RFC 6598, RFC 4193, link-local, the site-local
/// prefix of RFC 3879, and the same IPv4 networks behind NAT64 (RFC 6052,
/// RFC 8215).
const PRIVATE: [&str; 14] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "64:ff9b::a00:0/104",
    "64:ff9b::ac10:0/108",
    "64:ff9b::c0a8:0/112",
    "64:ff9b::6440:0/106",
    "64:ff9b::a9fe:0/112",
    "64:ff9b::7f00:0/104",
    "64:ff9b:1::/48",
];

const DNS_PORT: u16 = 53;

/// Maps from a tap's name to a chain of its machine.
pub(crate) const MAPS: [(&str, &str); 4] =
    [("pins", "pin"), ("peers", "net"), ("news", "new"), ("flows", "flow")];
const PINS: Set = Set("pins");
const PEERS: Set = Set("peers");
const NEWS: Set = Set("news");
const FLOWS: Set = Set("flows");

/// Set of the taps that no VM has at the moment: nothing is sent there.
pub(crate) const PARKED: &str = "parked";
const PARKED_SET: Set = Set(PARKED);

/// Set with one count of flows for each of [`FLOW_SHARDS`] hashes.
const GUEST_FLOWS: &str = "guest_flows";
/// Counts that share the limit on the flows of all guests. The kernel walks
/// through all flows of a count for each new one, so one count would be slow.
pub(crate) const FLOW_SHARDS: u32 = 256;

/// Most flows that guests may have at a time, as entries of the connection table
/// of the namespace and, to the outside, of that of the host as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowLimits {
    /// Of one guest.
    pub(crate) of_one: u32,
    /// Of all guests together.
    pub(crate) of_all: u32,
}

/// Destinations that belong to the host, see [`host_networks`].
const HOST_ADDRESSES: &str = "host_addresses";
const HOST_NETWORKS: &str = "host_networks";
const EGRESS: &str = "egress";
const FROM_GUEST: &str = "from_guest";
const TO_GUEST: &str = "to_guest";

/// Chains that the kernel enters: before the usual priority of filters, so that
/// a filter of an operator only sees what these rules let through.
const BASE_CHAINS: [(&str, Hook); 5] = [
    ("prerouting", filter(HOOK_PREROUTING, -300, false)),
    ("input", filter(HOOK_INPUT, -10, true)),
    ("forward", filter(HOOK_FORWARD, -10, true)),
    ("output", filter(HOOK_OUTPUT, -10, false)),
    ("postrouting", Hook { kind: "nat", number: HOOK_POSTROUTING, priority: 100, drop: false }),
];
const CHAINS: [&str; 5] = [FROM_GUEST, TO_GUEST, EGRESS, HOST_ADDRESSES, HOST_NETWORKS];

const fn filter(number: u32, priority: i32, drop: bool) -> Hook {
    Hook { kind: "filter", number, priority, drop }
}

/// The addresses and interfaces of the host's own namespace that the rules need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostNetworks {
    /// Addresses of the host: closed regardless of the settings.
    pub(crate) addresses: Vec<Cidr>,
    /// Networks that the host reaches without a router.
    pub(crate) connected: Vec<Cidr>,
}

/// Most prefixes of a kind that get a rule.
const MAX_PREFIXES: usize = 1024;

impl HostNetworks {
    /// From routes and addresses of the host's namespace: an IPv6 address gets its
    /// local route only a moment later. Connected networks that are private are
    /// closed anyway.
    pub(crate) fn of(routes: &[Route], addresses: &[IpAddr]) -> Self {
        let private: Vec<Cidr> = parsed(&PRIVATE).collect();
        let bounded = |networks: BTreeSet<Cidr>| {
            if networks.len() > MAX_PREFIXES {
                let (found, most) = (networks.len(), MAX_PREFIXES);
                tracing::warn!(found, most, "not all networks of the host are closed to guests");
            }
            networks.into_iter().filter(|to| !to.is_loopback()).take(MAX_PREFIXES).collect()
        };
        let local = routes.iter().filter(|route| route.local).map(|route| route.to);
        let connected = routes.iter().filter(|route| route.connected).map(|route| route.to);
        let is_private = |cidr: &Cidr| private.iter().any(|private| private.contains(cidr));
        Self {
            addresses: bounded(local.chain(addresses.iter().copied().map(Cidr::single)).collect()),
            connected: bounded(connected.filter(|to| !is_private(to)).collect()),
        }
    }
}

/// Name of the table.
pub(crate) fn table(tag: Tag) -> String {
    format!("updraft_{tag}")
}

/// Names of the shared chains.
pub(crate) fn shared_chains() -> impl Iterator<Item = &'static str> {
    BASE_CHAINS.iter().map(|(name, _)| *name).chain(CHAINS)
}

/// Creates what all machines share. Applied again, it replaces the shared rules
/// and leaves the machines' chains and maps alone.
pub(crate) fn create(
    config: &NetworkConfig,
    name_servers: &[IpAddr],
    host: &HostNetworks,
) -> Batch {
    let mut batch = Batch::new(table(config.tag));
    batch.create_table();
    MAPS.iter().for_each(|(map, _)| batch.create_map(map));
    batch.create_set(PARKED);
    // Elements keep the limit that they began with: here, a changed one is taken.
    batch.create_dynamic_set(GUEST_FLOWS, FLOW_SHARDS);
    batch.flush_set(GUEST_FLOWS);
    BASE_CHAINS.iter().for_each(|(name, hook)| batch.create_base_chain(name, *hook));
    CHAINS.iter().for_each(|name| batch.create_chain(name));
    shared_chains().for_each(|name| batch.flush(name));
    add(&mut batch, "prerouting", prerouting(config));
    add(&mut batch, "input", input(config));
    add(&mut batch, "forward", forward(config));
    add(&mut batch, "output", output(config));
    add(&mut batch, FROM_GUEST, from_guest(config, name_servers));
    add(&mut batch, EGRESS, egress());
    add(&mut batch, TO_GUEST, to_guest());
    if config.masquerade {
        let ours = iifname_prefix(&config.tag.tap_prefix());
        batch.rule("postrouting", &rule(&[&ours, &oifname(UPLINK), &[Expr::Masquerade]]));
    }
    fill_host_chains(&mut batch, host);
    batch
}

/// Replaces the rules for the host's addresses and networks.
pub(crate) fn host_networks(tag: Tag, host: &HostNetworks) -> Batch {
    let mut batch = Batch::new(table(tag));
    batch.flush(HOST_ADDRESSES);
    batch.flush(HOST_NETWORKS);
    fill_host_chains(&mut batch, host);
    batch
}

/// The condition of a new flow beyond the limit on those of all guests. The key of
/// the kernel's hash is secret, so a guest can hardly fill the count of another.
pub(crate) fn all_flows(limit: u32) -> Vec<Expr> {
    let of_shard = (limit / FLOW_SHARDS).max(1);
    vec![Expr::FlowHash(FLOW_SHARDS), Expr::ConnLimitIn(Set(GUEST_FLOWS), of_shard)]
}

/// Deletes the table, whether it exists or not.
pub(crate) fn remove(tag: Tag) -> Batch {
    Batch::removal(table(tag))
}

/// The slot whose chain this is.
pub(crate) fn slot_of_chain(chain: &str) -> Option<Slot> {
    let (part, slot) = chain.split_once('_')?;
    MAPS.iter().any(|(_, chain)| *chain == part).then(|| parse_slot(slot)).flatten()
}

fn add(batch: &mut Batch, chain: &str, rules: Vec<Vec<Expr>>) {
    rules.iter().for_each(|rule| batch.rule(chain, rule));
}

fn fill_host_chains(batch: &mut Batch, host: &HostNetworks) {
    for address in &host.addresses {
        batch.rule(HOST_ADDRESSES, &drop_to(*address));
    }
    for network in &host.connected {
        batch.rule(HOST_NETWORKS, &drop_to(*network));
    }
}

fn drop_to(cidr: Cidr) -> Vec<Expr> {
    rule(&[&daddr(cidr), &DROP])
}

fn goto(chain: &'static str) -> [Expr; 1] {
    [Expr::Verdict(Verdict::Goto(chain))]
}

fn jump(chain: &'static str) -> [Expr; 1] {
    [Expr::Verdict(Verdict::Jump(chain))]
}

fn prerouting(config: &NetworkConfig) -> Vec<Vec<Expr>> {
    let ours = config.tag.tap_prefix();
    vec![iifname_vmap(PINS).to_vec(), rule(&[&iifname_prefix(&ours), &DROP])]
}

/// To the namespace itself: replies to the daemon's connections, neighbour
/// discovery, and echo requests to the guest's own gateway.
fn input(config: &NetworkConfig) -> Vec<Vec<Expr>> {
    let ours = config.tag.tap_prefix();
    let (four, six) = (family(libc::NFPROTO_IPV4), family(libc::NFPROTO_IPV6));
    let echo4 = [four, protocol(libc::IPPROTO_ICMP), icmp_type(8)].concat();
    let echo6 = [six, protocol(libc::IPPROTO_ICMPV6), icmp_type(128)].concat();
    vec![
        rule(&[&iifname("lo"), &[ACCEPT]]),
        rule(&[&iifname_not_prefix(&ours), &ct_established(), &[ACCEPT]]),
        rule(&[&iifname_not_prefix(&ours), &DROP]),
        rule(&[&six, &NEIGHBOUR_DISCOVERY, &[ACCEPT]]),
        rule(&[&TO_OWN_ADDRESS, &echo4, &iifname_vmap(NEWS)]),
        rule(&[&TO_OWN_ADDRESS, &echo6, &iifname_vmap(NEWS)]),
        rule(&[&ct_established(), &iifname_vmap(FLOWS)]),
        DROP.to_vec(),
    ]
}

fn forward(config: &NetworkConfig) -> Vec<Vec<Expr>> {
    let ours = config.tag.tap_prefix();
    vec![
        rule(&[&iifname_prefix(&ours), &goto(FROM_GUEST)]),
        rule(&[&oifname_prefix(&ours), &goto(TO_GUEST)]),
        DROP.to_vec(),
    ]
}

fn from_guest(config: &NetworkConfig, name_servers: &[IpAddr]) -> Vec<Vec<Expr>> {
    let to_tap = oifname_prefix(&config.tag.tap_prefix());
    let (pool, length) = config.pool.cidr();
    let mut rules = vec![
        rule(&[&oifname_in(PARKED_SET), &DROP]),
        // Guest to guest: 6PN of one network, and only the address that a machine
        // has. A lookup of all other addresses of a block would fill the
        // neighbour table.
        rule(&[&to_tap, &daddr_of_machine(), &iifname_vmap(PEERS)]),
        rule(&[&to_tap, &DROP]),
        rule(&[&ct_established(), &iifname_vmap(FLOWS)]),
    ];
    // Addresses of the pool without a tap are dropped, too: they would leave by
    // the default route.
    let closed = parsed(&METADATA).chain([Cidr::containing(pool.into(), length)]);
    rules.extend(closed.map(drop_to));
    rules.push(jump(HOST_ADDRESSES).to_vec());
    for server in name_servers {
        for transport in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
            let port = [protocol(transport), dport(DNS_PORT)].concat();
            rules.push(rule(&[&daddr(Cidr::single(*server)), &port, &goto(EGRESS)]));
        }
    }
    rules.extend(config.block_egress.iter().map(|cidr| drop_to(*cidr)));
    let allowed = config.allow_egress.iter();
    rules.extend(allowed.map(|cidr| rule(&[&daddr(*cidr), &goto(EGRESS)])));
    rules.extend(parsed(&PRIVATE).map(drop_to));
    rules.extend([jump(HOST_NETWORKS).to_vec(), goto(EGRESS).to_vec()]);
    rules
}

/// The prefixes of a table above, all of which parse: a test looks.
fn parsed(prefixes: &'static [&'static str]) -> impl Iterator<Item = Cidr> {
    prefixes.iter().filter_map(|prefix| prefix.parse().ok())
}

fn egress() -> Vec<Vec<Expr>> {
    vec![
        CLAMP_MSS.to_vec(),
        rule(&[&ct_new(), &iifname_vmap(NEWS)]),
        rule(&[&ct_established(), &iifname_vmap(FLOWS)]),
        DROP.to_vec(),
    ]
}

/// From the uplink: replies.
fn to_guest() -> Vec<Vec<Expr>> {
    vec![
        rule(&[&oifname_in(PARKED_SET), &DROP]),
        rule(&[&ct_established(), &oifname_vmap(FLOWS)]),
        DROP.to_vec(),
    ]
}

/// From the namespace itself to a guest: all but flows of an earlier machine in
/// the slot; the daemon's end of such a flow is reset.
fn output(config: &NetworkConfig) -> Vec<Vec<Expr>> {
    let ours = config.tag.tap_prefix();
    let parked = oifname_in(PARKED_SET);
    let reset = [&protocol(libc::IPPROTO_TCP)[..], &[Expr::RejectTcp]].concat();
    vec![
        rule(&[&oifname_not_prefix(&ours), &[ACCEPT]]),
        rule(&[&parked, &reset]),
        rule(&[&parked, &DROP]),
        rule(&[&family(libc::NFPROTO_IPV6), &NEIGHBOUR_DISCOVERY, &[ACCEPT]]),
        rule(&[&ct_new(), &oifname_vmap(NEWS)]),
        rule(&[&ct_established(), &oifname_vmap(FLOWS)]),
        reset,
        DROP.to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_prefixes_of_the_tables_parse() {
        assert_eq!(parsed(&METADATA).count(), METADATA.len());
        assert_eq!(parsed(&PRIVATE).count(), PRIVATE.len());
    }

    #[test]
    fn chains_of_machines_are_distinguished_from_shared_ones() {
        assert_eq!(slot_of_chain("pin_0007"), Some(Slot(7)));
        for shared in shared_chains().chain(["pin_7", "foo_0007"]) {
            assert_eq!(slot_of_chain(shared), None, "{shared}");
        }
    }
}
