//! The nftables rules that all machines share, as text for `nft -f`.
//!
//! One table `inet updraft_<tag>` holds everything, and a transaction changes
//! it: [`base`], as text, what all machines share; `machine` over netlink what
//! one machine has. The base hands packets over to a machine's own chains
//! through maps keyed by the tap's name:
//!
//! | map, chain | is asked | says |
//! |---|---|---|
//! | `pins`, `pin_<slot>` | first, of all that comes from a tap | the source is the machine's own, else drop |
//! | `peers`, `net_<slot>` | for what goes from tap to tap | the destination is in the machine's 6PN network, else drop |
//! | `news`, `new_<slot>` | for a flow without an answer yet | mark it as this attachment's, drop if the guest has too many |
//! | `flows`, `flow_<slot>` | for all others | the flow is this attachment's |
//!
//! The set `resting` has the taps of machines that are stopped for now: nothing
//! goes there, and the host's connections are reset. To begin and to end a rest
//! is to change one element, which takes the same time however many machines
//! there are; a change of a map does not, since the kernel looks for loops.
//!
//! Flows are marked because IPv4 addresses belong to slots: without it, what
//! the world still sends to a destroyed machine would reach the next one.
//!
//! Our chains only ever drop: an `accept` here ends our table's say, not that
//! of other tables.

use crate::config::{NetworkConfig, Tag, parse_slot};
use model::address::Slot;
use std::fmt::Write;

/// Metadata services of cloud providers: whoever reaches them is the host, as
/// far as the provider knows. AWS, Azure, GCP, Oracle and others; Alibaba;
/// Oracle's and Azure's second addresses.
const METADATA4: &str = "169.254.0.0/16, 100.100.100.200, 192.0.0.192, 168.63.129.16";
/// AWS, GCP; with all of 6PN, which never leaves by way of the uplink.
const METADATA6: &str = "fd00:ec2::/32, fd20:ce::/64, fdaa::/16";

/// Neighbour discovery.
const ND: &str = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";

/// Maps from a tap's name to a chain of its machine.
pub(crate) const MAPS: [(&str, &str); 4] =
    [("pins", "pin"), ("peers", "net"), ("news", "new"), ("flows", "flow")];

/// Set of the taps that have no VM for now: nothing goes there.
pub(crate) const RESTING: &str = "resting";

/// Name of the table.
pub fn table(tag: Tag) -> String {
    format!("updraft_{tag}")
}

/// What all machines share. Applied again, it replaces its rules and leaves
/// the machines' chains and maps.
pub fn base(config: &NetworkConfig) -> String {
    let t = table(config.tag);
    let ours = format!("\"{}*\"", config.tag.tap_prefix());
    let mut text = format!("add table inet {t}\n");
    for (map, _) in MAPS {
        let _ = writeln!(text, "add map inet {t} {map} {{ type ifname : verdict; }}");
    }
    let _ = writeln!(text, "add set inet {t} {RESTING} {{ type ifname; }}");
    for (chain, hook) in CHAINS {
        let _ = writeln!(text, "add chain inet {t} {chain}{hook}");
        let _ = writeln!(text, "flush chain inet {t} {chain}");
    }
    for rule in rules(config, &ours) {
        let _ = writeln!(text, "add rule inet {t} {rule}");
    }
    text
}

/// Shared chains and where they hook in: before the usual filters, so that
/// what they would log or count is only what we let through.
const CHAINS: [(&str, &str); 7] = [
    ("prerouting", " { type filter hook prerouting priority raw; policy accept; }"),
    ("input", " { type filter hook input priority filter - 10; policy accept; }"),
    ("forward", " { type filter hook forward priority filter - 10; policy accept; }"),
    ("output", " { type filter hook output priority filter - 10; policy accept; }"),
    ("postrouting", " { type nat hook postrouting priority srcnat; policy accept; }"),
    ("from_guest", ""),
    ("to_guest", ""),
];

fn rules(config: &NetworkConfig, ours: &str) -> Vec<String> {
    let (base, length) = config.pool.cidr();
    let mut rules = vec![
        "prerouting iifname vmap @pins".to_owned(),
        format!("prerouting iifname {ours} counter drop"),
        // Guest to host: replies, neighbour discovery, ping of the gateway.
        format!("input iifname != {ours} accept"),
        format!("input {ND} ip6 hoplimit 255 accept"),
        "input fib daddr . iif type local icmp type echo-request iifname vmap @news".to_owned(),
        "input fib daddr . iif type local icmpv6 type echo-request iifname vmap @news".to_owned(),
        "input ct state established,related iifname vmap @flows".to_owned(),
        "input counter drop".to_owned(),
        format!("forward iifname {ours} goto from_guest"),
        format!("forward oifname {ours} goto to_guest"),
        // Nothing piles up in a tap that rests.
        format!("from_guest oifname @{RESTING} counter drop"),
        // Guest to guest: 6PN of one network. A tap without a map entry: nothing.
        // Only the address that a machine has: asking the host to look for all
        // others of a block would fill the neighbour table.
        format!("from_guest oifname {ours} ip6 daddr & ::ffff == ::2 iifname vmap @peers"),
        format!("from_guest oifname {ours} counter drop"),
        // Guest to the world. The pool's own addresses without a tap are dropped
        // here, or they would leave by the default route.
        format!("from_guest ip daddr {{ {METADATA4}, {base}/{length} }} counter drop"),
        format!("from_guest ip6 daddr {{ {METADATA6} }} counter drop"),
    ];
    for (family, ipv4) in [("ip", true), ("ip6", false)] {
        let blocked = config.block_egress.iter().filter(|cidr| cidr.is_ipv4() == ipv4);
        // One rule each: a set would refuse overlapping prefixes.
        rules.extend(blocked.map(|cidr| format!("from_guest {family} daddr {cidr} counter drop")));
    }
    rules.extend([
        // The uplink's MTU may be smaller than the tap's.
        "from_guest tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu".to_owned(),
        "from_guest ct state new iifname vmap @news".to_owned(),
        "from_guest ct state established,related iifname vmap @flows".to_owned(),
        "from_guest counter drop".to_owned(),
        // The world to guest: replies.
        format!("to_guest oifname @{RESTING} counter drop"),
        "to_guest ct state established,related oifname vmap @flows".to_owned(),
        "to_guest counter drop".to_owned(),
        // Host to guest: all, but no flow of an earlier machine in this slot;
        // the host's end of such a one learns at once.
        format!("output oifname != {ours} accept"),
        format!("output oifname @{RESTING} meta l4proto tcp reject with tcp reset"),
        format!("output oifname @{RESTING} counter drop"),
        format!("output {ND} accept"),
        "output ct state new oifname vmap @news".to_owned(),
        "output ct state established,related oifname vmap @flows".to_owned(),
        "output meta l4proto tcp reject with tcp reset".to_owned(),
        "output counter drop".to_owned(),
    ]);
    if config.masquerade {
        rules.push(format!("postrouting iifname {ours} oifname != {ours} masquerade"));
    }
    rules
}

/// Removes the table, whether it is there or not.
pub fn remove(tag: Tag) -> String {
    let t = table(tag);
    format!("add table inet {t}\ndelete table inet {t}\n")
}

/// The slot whose chain this is.
pub(crate) fn slot_of_chain(chain: &str) -> Option<Slot> {
    let (part, slot) = chain.split_once('_')?;
    MAPS.iter().any(|(_, chain)| *chain == part).then(|| parse_slot(slot)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use model::address::Ipv4Pool;
    use std::net::Ipv4Addr;

    fn config() -> NetworkConfig {
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
        let mut config = NetworkConfig::new("/var/lib/updraft".into(), pool);
        config.block_egress = vec!["10.0.0.0/8".parse().unwrap(), "fc00::/7".parse().unwrap()];
        config
    }

    #[test]
    fn what_all_machines_share() {
        expect![[r#"
            add table inet updraft_e45e
            add map inet updraft_e45e pins { type ifname : verdict; }
            add map inet updraft_e45e peers { type ifname : verdict; }
            add map inet updraft_e45e news { type ifname : verdict; }
            add map inet updraft_e45e flows { type ifname : verdict; }
            add set inet updraft_e45e resting { type ifname; }
            add chain inet updraft_e45e prerouting { type filter hook prerouting priority raw; policy accept; }
            flush chain inet updraft_e45e prerouting
            add chain inet updraft_e45e input { type filter hook input priority filter - 10; policy accept; }
            flush chain inet updraft_e45e input
            add chain inet updraft_e45e forward { type filter hook forward priority filter - 10; policy accept; }
            flush chain inet updraft_e45e forward
            add chain inet updraft_e45e output { type filter hook output priority filter - 10; policy accept; }
            flush chain inet updraft_e45e output
            add chain inet updraft_e45e postrouting { type nat hook postrouting priority srcnat; policy accept; }
            flush chain inet updraft_e45e postrouting
            add chain inet updraft_e45e from_guest
            flush chain inet updraft_e45e from_guest
            add chain inet updraft_e45e to_guest
            flush chain inet updraft_e45e to_guest
            add rule inet updraft_e45e prerouting iifname vmap @pins
            add rule inet updraft_e45e prerouting iifname "ude45e*" counter drop
            add rule inet updraft_e45e input iifname != "ude45e*" accept
            add rule inet updraft_e45e input icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
            add rule inet updraft_e45e input fib daddr . iif type local icmp type echo-request iifname vmap @news
            add rule inet updraft_e45e input fib daddr . iif type local icmpv6 type echo-request iifname vmap @news
            add rule inet updraft_e45e input ct state established,related iifname vmap @flows
            add rule inet updraft_e45e input counter drop
            add rule inet updraft_e45e forward iifname "ude45e*" goto from_guest
            add rule inet updraft_e45e forward oifname "ude45e*" goto to_guest
            add rule inet updraft_e45e from_guest oifname @resting counter drop
            add rule inet updraft_e45e from_guest oifname "ude45e*" ip6 daddr & ::ffff == ::2 iifname vmap @peers
            add rule inet updraft_e45e from_guest oifname "ude45e*" counter drop
            add rule inet updraft_e45e from_guest ip daddr { 169.254.0.0/16, 100.100.100.200, 192.0.0.192, 168.63.129.16, 172.30.0.0/16 } counter drop
            add rule inet updraft_e45e from_guest ip6 daddr { fd00:ec2::/32, fd20:ce::/64, fdaa::/16 } counter drop
            add rule inet updraft_e45e from_guest ip daddr 10.0.0.0/8 counter drop
            add rule inet updraft_e45e from_guest ip6 daddr fc00::/7 counter drop
            add rule inet updraft_e45e from_guest tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
            add rule inet updraft_e45e from_guest ct state new iifname vmap @news
            add rule inet updraft_e45e from_guest ct state established,related iifname vmap @flows
            add rule inet updraft_e45e from_guest counter drop
            add rule inet updraft_e45e to_guest oifname @resting counter drop
            add rule inet updraft_e45e to_guest ct state established,related oifname vmap @flows
            add rule inet updraft_e45e to_guest counter drop
            add rule inet updraft_e45e output oifname != "ude45e*" accept
            add rule inet updraft_e45e output oifname @resting meta l4proto tcp reject with tcp reset
            add rule inet updraft_e45e output oifname @resting counter drop
            add rule inet updraft_e45e output icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
            add rule inet updraft_e45e output ct state new oifname vmap @news
            add rule inet updraft_e45e output ct state established,related oifname vmap @flows
            add rule inet updraft_e45e output meta l4proto tcp reject with tcp reset
            add rule inet updraft_e45e output counter drop
            add rule inet updraft_e45e postrouting iifname "ude45e*" oifname != "ude45e*" masquerade
        "#]].assert_eq(&base(&config()));
    }

    #[test]
    fn chains_of_machines_are_told_from_shared_ones() {
        assert_eq!(slot_of_chain("pin_0007"), Some(Slot(7)));
        for shared in ["prerouting", "from_guest", "to_guest", "pin_7", "foo_0007"] {
            assert_eq!(slot_of_chain(shared), None, "{shared}");
        }
    }
}
