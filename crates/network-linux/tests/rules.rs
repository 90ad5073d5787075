//! A machine's rules as text, against what the kernel was told without it.

mod lab;

use lab::{Host, can_run};

const FLOWS: u32 = 4000;

#[test]
fn the_rules_of_a_machine_are_those_of_this_text() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_flows = Some(FLOWS);
    host.prepare();
    let _guest = host.boot(7, 9);

    // Its tap is the third interface of the namespace, which is in the mark.
    let text = format!(
        r#"
        table inet updraft_{tag} {{
            chain pin_0007 {{
                ip saddr 172.30.0.30 accept
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

    // As the kernel has them: every expression, but the counts and the handles.
    let kernels = |host: &Host| {
        let all = host.inside().sh("nft --debug=netlink -s list ruleset");
        let plain = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["[", "counter", ..] => "[ counter ]".to_owned(),
                ["inet", table, chain, ..] => format!("inet {table} {chain}"),
                _ => words.join(" "),
            }
        };
        all.lines().map(plain).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(kernels(&host), kernels(&oracle));

    assert!(
        kernels(&host).contains(&format!("[ connlimit count {FLOWS} flags 1 ]")),
        "nft shows no expressions"
    );
}
