//! The rules as text, which `nft` compiles, against those that we send ourselves.

// Test code, which clippy does not recognise outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Host, NetNs, can_run};
use worker::ports::Network;

const FLOWS: u32 = 4000;

#[test]
fn the_rules_of_a_machine_are_those_of_this_text() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_flows = Some(FLOWS);
    host.config.max_flows_of_all = Some(40 * 256 + 7);
    host.prepare();
    let _guest = host.boot(7, 9);

    // Its tap is the third interface of the namespace, which is in the mark.
    let text = format!(
        r#"
        table inet updraft_{tag} {{
            chain pin_0007 {{
                ip saddr 172.30.0.30 accept
                ip6 saddr fdaa:0:9:0:1:0:8:2 ip6 daddr fdaa:0:9::/48 ip6 daddr & ::ffff == ::2 notrack accept
                ip6 saddr fdaa:0:9:0:1:0:8:2 accept
                ip6 saddr :: icmpv6 type 135-136 ip6 hoplimit 255 accept
                ip6 saddr fe80::75:ff:fe01:7 icmpv6 type 135-136 ip6 hoplimit 255 accept
                counter drop
            }}
            chain net_0007 {{
                ip6 daddr fdaa:0:9::/48 accept
                counter drop
            }}
            chain new_0007 {{
                ct mark 0x75000003 accept
                iifname "ud{tag}0007" limit rate over 1000/second burst 1000 packets counter drop
                iifname "ud{tag}0007" ct count over {flows} counter drop
                iifname "ud{tag}0007" add @guest_flows {{ symhash mod 256 ct count over 40 }} counter drop
                ct mark set 0x75000003 accept
            }}
            chain flow_0007 {{
                ct mark 0x75000003 accept
            }}
        }}
        add element inet updraft_{tag} pins {{ "ud{tag}0007" : jump pin_0007 }}
        add element inet updraft_{tag} peers {{ "ud{tag}0007" : jump net_0007 }}
        add element inet updraft_{tag} news {{ "ud{tag}0007" : jump new_0007 }}
        add element inet updraft_{tag} flows {{ "ud{tag}0007" : jump flow_0007 }}
        "#,
        tag = host.tag(),
        flows = FLOWS
    );
    let oracle = Host::new();
    oracle.prepare();
    oracle.inside().sh(&format!("nft -f - <<'END'\n{text}\nEND"));

    let [host, oracle] = [&host, &oracle].map(|host| expressions(&host.inside()));
    assert_eq!(host, oracle);
    let limit = format!("[ connlimit count {FLOWS} flags 1 ]");
    assert!(host.contains(&limit), "nft shows no expressions");
}

/// The ruleset as the kernel has it.
fn expressions(ns: &NetNs) -> String {
    without_handles(&ns.sh("nft --debug=netlink -s list ruleset"))
}

/// All expressions, without counts and handles.
fn without_handles(text: &str) -> String {
    let plain = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["[", "counter", ..] => "[ counter ]".to_owned(),
            ["inet", table, chain, ..] => format!("inet {table} {chain}"),
            _ => words.join(" "),
        }
    };
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// The rules that all machines share, in the language of `nft`.
const SHARED: &str = r#"
table inet updraft_TAG {
    map pins { type ifname : verdict; }
    map peers { type ifname : verdict; }
    map news { type ifname : verdict; }
    map flows { type ifname : verdict; }
    set parked { type ifname; }
    set guest_flows { typeof symhash mod 256; flags dynamic; size 256; }
    chain from_guest { }
    chain to_guest { }
    chain egress { }
    chain host_addresses { }
    chain host_networks { }
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        iifname vmap @pins
        iifname "udTAG*" counter drop
    }
    chain input {
        type filter hook input priority filter - 10; policy drop;
        iifname "lo" accept
        iifname != "udTAG*" ct state established,related accept
        iifname != "udTAG*" counter drop
        meta nfproto ipv6 icmpv6 type 135-136 ip6 hoplimit 255 accept
        fib daddr . iif type local icmp type echo-request iifname vmap @news
        fib daddr . iif type local icmpv6 type echo-request iifname vmap @news
        ct state established,related iifname vmap @flows
        counter drop
    }
    chain forward {
        type filter hook forward priority filter - 10; policy drop;
        iifname "udTAG*" goto from_guest
        oifname "udTAG*" goto to_guest
        counter drop
    }
    chain output {
        type filter hook output priority filter - 10; policy accept;
        oifname != "udTAG*" accept
        oifname @parked meta l4proto tcp reject with tcp reset
        oifname @parked counter drop
        meta nfproto ipv6 icmpv6 type 135-136 ip6 hoplimit 255 accept
        ct state new oifname vmap @news
        ct state established,related oifname vmap @flows
        meta l4proto tcp reject with tcp reset
        counter drop
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        iifname "udTAG*" oifname "uplink" masquerade
    }
    chain from_guest {
        oifname @parked counter drop
        oifname "udTAG*" ip6 daddr & ::ffff == ::2 iifname vmap @peers
        oifname "udTAG*" counter drop
        ct state established,related iifname vmap @flows
        ip daddr 169.254.0.0/16 counter drop
        ip daddr 100.100.100.200 counter drop
        ip daddr 192.0.0.192 counter drop
        ip daddr 168.63.129.16 counter drop
        ip6 daddr fd00:ec2::/32 counter drop
        ip6 daddr fd20:ce::/64 counter drop
        ip6 daddr fdaa::/16 counter drop
        ip daddr 172.30.0.0/16 counter drop
        jump host_addresses
        ip daddr 9.9.9.9 udp dport 53 goto egress
        ip daddr 9.9.9.9 tcp dport 53 goto egress
        ip daddr 192.0.2.0/24 counter drop
        ip daddr 10.0.0.0/9 goto egress
        ip daddr 10.0.0.0/8 counter drop
        ip daddr 172.16.0.0/12 counter drop
        ip daddr 192.168.0.0/16 counter drop
        ip daddr 100.64.0.0/10 counter drop
        ip6 daddr fc00::/7 counter drop
        ip6 daddr fe80::/10 counter drop
        ip6 daddr fec0::/10 counter drop
        ip6 daddr 64:ff9b::a00:0/104 counter drop
        ip6 daddr 64:ff9b::ac10:0/108 counter drop
        ip6 daddr 64:ff9b::c0a8:0/112 counter drop
        ip6 daddr 64:ff9b::6440:0/106 counter drop
        ip6 daddr 64:ff9b::a9fe:0/112 counter drop
        ip6 daddr 64:ff9b::7f00:0/104 counter drop
        ip6 daddr 64:ff9b:1::/48 counter drop
        jump host_networks
        goto egress
    }
    chain egress {
        tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        ct state new iifname vmap @news
        ct state established,related iifname vmap @flows
        counter drop
    }
    chain to_guest {
        oifname @parked counter drop
        ct state established,related oifname vmap @flows
        counter drop
    }
    chain host_addresses {
        ip daddr HOST4 counter drop
        ip6 daddr HOST6 counter drop
    }
}
"#;

/// The rules of the link in the host's namespace.
const UPLINK: &str = r#"
table inet updraft_TAG_uplink {
    chain input {
        type filter hook input priority filter - 10; policy accept;
        iifname "udTAG-host" counter drop
    }
    chain forward {
        type filter hook forward priority filter - 10; policy accept;
        iifname "udTAG-host" ip saddr != OWN4 counter drop
        iifname "udTAG-host" ip6 saddr != OWN6 counter drop
        iifname "udTAG-host" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        oifname "udTAG-host" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        oifname "udTAG-host" ct state established,related accept
        oifname "udTAG-host" counter drop
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        iifname "udTAG-host" oifname != "udTAG-host" masquerade
    }
}
"#;

#[test]
fn the_rules_that_all_machines_share_are_those_of_this_text() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.nameservers = vec!["9.9.9.9".parse().unwrap()];
    host.config.block_egress = vec!["192.0.2.0/24".parse().unwrap()];
    host.config.allow_egress = vec!["10.0.0.0/9".parse().unwrap()];
    host.prepare();
    let addresses = |ns: &NetNs, interface: &str| -> [String; 2] {
        let list = format!("ip -o addr show dev {interface} | awk '{{print $4}}' | cut -d/ -f1");
        let lines: Vec<_> = ns.sh(&list).lines().map(str::to_owned).collect();
        lines.try_into().unwrap()
    };
    let tag = host.tag().to_string();
    let [host4, host6] = addresses(&host.ns, &format!("ud{tag}-host"));
    let [own4, own6] = addresses(&host.inside(), "uplink");
    let fill = |text: &str| {
        let values = [("TAG", &tag), ("HOST4", &host4), ("HOST6", &host6), ("OWN4", &own4)];
        let text =
            values.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value));
        text.replace("OWN6", &own6)
    };
    for (ns, text) in [(host.inside(), SHARED), (host.ns.clone(), UPLINK)] {
        let oracle = NetNs::new();
        oracle.sh(&format!("nft -f - <<'END'\n{}\nEND", fill(text)));
        assert_eq!(sorted(&ns), sorted(&oracle));
    }
}

#[test]
fn name_servers_that_the_host_gets_later_are_opened_beside_the_earlier_ones() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.nameservers = vec!["9.9.9.9".parse().unwrap()];
    host.prepare();
    let inside = host.inside();
    let rule = |server: &str| {
        let text = format!("ip daddr {server} tcp dport 53 goto egress");
        inside.sh("nft list ruleset").contains(&text)
    };
    assert!(rule("9.9.9.9") && !rule("192.168.7.7"), "{}", inside.sh("nft list ruleset"));
    host.net(|net| async move {
        net.prepare().await.unwrap();
        net.open_name_servers(&["192.168.7.7".parse().unwrap()]).await.unwrap();
        // The same again, and the earlier one: nothing is lost.
        net.open_name_servers(&["192.168.7.7".parse().unwrap()]).await.unwrap();
        net.open_name_servers(&["9.9.9.9".parse().unwrap()]).await.unwrap();
    });
    assert!(rule("9.9.9.9") && rule("192.168.7.7"), "{}", inside.sh("nft list ruleset"));
}

/// The chains with their expressions, in the order of their names.
fn sorted(ns: &NetNs) -> String {
    let tables = ns.sh("nft -j list chains");
    let tables: serde_json::Value = serde_json::from_str(&tables).unwrap();
    let mut chains: Vec<String> = tables["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item.get("chain"))
        .map(|chain| {
            let [table, name] = ["table", "name"].map(|key| chain[key].as_str().unwrap());
            without_handles(
                &ns.sh(&format!("nft --debug=netlink -s list chain inet {table} {name}")),
            )
        })
        .collect();
    chains.sort();
    chains.join("\n")
}
