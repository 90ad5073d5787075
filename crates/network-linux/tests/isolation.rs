//! The addresses that guests can and cannot reach, with a real network in namespaces. A packet
//! counts as dropped when a later one on the same path arrives first; no test
//! waits for silence.

mod lab;

use lab::{Host, can_run, internet, recv};
use model::address::Slot;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use worker::ports::Network;

#[test]
fn it_passes_the_contract_that_the_fake_passes() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.net(|net| async move { testkit::network_contract(&*net).await });
}

#[test]
fn host_and_guest_reach_each_other_and_a_connection_survives_another_prepare() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let guest = host.boot(7, 1);
    guest.ns.pings(guest.addresses.ipv4_gateway.into());
    guest.ns.pings(guest.addresses.ipv6_gateway.into());
    host.inside().pings(guest.addresses.ipv4.into());
    host.inside().pings(guest.addresses.ipv6.into());

    let listener = guest.ns.run(|| TcpListener::bind("[::]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    for address in
        [SocketAddr::from((guest.addresses.ipv4, port)), (guest.addresses.ipv6, port).into()]
    {
        let mut near = host.inside().run(move || TcpStream::connect(address).unwrap());
        let (mut far, _) = listener.accept().unwrap();
        let link = host.link(7, 1);
        host.prepare();
        host.net(move |net| async move { net.adopt(link).await.unwrap() });
        near.write_all(b"ping").unwrap();
        let mut word = [0; 4];
        far.read_exact(&mut word).unwrap();
        far.write_all(b"pong").unwrap();
        near.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"pong");
    }
}

#[test]
fn spoofed_sources_are_dropped() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let internet = internet(&host);
    host.prepare();
    let guest = host.boot(0, 1);
    let neighbour = host.boot(1, 1);
    for (world, own, forged) in [
        ("203.0.113.1", guest.addresses.ipv4.to_string(), "172.30.0.6".to_owned()),
        ("203.0.113.1", guest.addresses.ipv4.to_string(), "203.0.113.77".to_owned()),
        (
            "2001:db8::1",
            format!("[{}]", guest.addresses.ipv6),
            neighbour.addresses.ipv6.to_string(),
        ),
        ("2001:db8::1", format!("[{}]", guest.addresses.ipv6), "2001:db8::77".to_owned()),
    ] {
        let v6 = forged.contains(':');
        guest.add_address(&format!("{forged}/{}", if v6 { 128 } else { 32 }));
        let sink = internet.udp(if v6 { "[::]:0" } else { "0.0.0.0:0" });
        let to = SocketAddr::new(world.parse().unwrap(), sink.local_addr().unwrap().port());
        let bind = if v6 { format!("[{forged}]:0") } else { format!("{forged}:0") };
        guest.ns.udp(&bind).send_to(b"forged", to).unwrap();
        guest.ns.udp(&format!("{own}:0")).send_to(b"own", to).unwrap();
        assert_eq!(recv(&sink).0, "own", "{forged}");
    }
}

#[test]
fn machines_reach_each_other_over_6pn_of_one_network_alone() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (a, b, other) = (host.boot(0, 1), host.boot(1, 1), host.boot(2, 2));
    a.ns.pings(b.addresses.ipv6.into());
    b.ns.pings(a.addresses.ipv6.into());

    // One socket per machine receives both families; the last datagram is ours.
    for (from, to) in [(&other, &a), (&a, &other)] {
        let sink = to.ns.udp("[::]:0");
        let port = sink.local_addr().unwrap().port();
        let sender = from.ns.udp("[::]:0");
        sender.send_to(b"6pn", (to.addresses.ipv6, port)).unwrap();
        let sender4 = from.ns.udp("0.0.0.0:0");
        sender4.send_to(b"ipv4", (to.addresses.ipv4, port)).unwrap();
        from.ns.pings(from.addresses.ipv4_gateway.into());
        host.inside().udp("0.0.0.0:0").send_to(b"host", (to.addresses.ipv4, port)).unwrap();
        assert_eq!(recv(&sink).0, "host");
    }

    // In one network, IPv4 is closed all the same, and 6PN open for the one
    // address that the machine was given.
    let extra = std::net::Ipv6Addr::from_bits(b.addresses.ipv6.to_bits() + 3);
    b.add_address(&format!("{extra}/128"));
    let sink = b.ns.udp("[::]:0");
    let port = sink.local_addr().unwrap().port();
    a.ns.udp("0.0.0.0:0").send_to(b"ipv4", (b.addresses.ipv4, port)).unwrap();
    a.ns.udp("[::]:0").send_to(b"extra", (extra, port)).unwrap();
    a.ns.udp("[::]:0").send_to(b"6pn", (b.addresses.ipv6, port)).unwrap();
    let (word, from) = recv(&sink);
    assert_eq!((word.as_str(), from.ip()), ("6pn", a.addresses.ipv6.into()));
}

#[test]
fn a_guest_reaches_nothing_of_the_host_but_a_ping_of_its_gateway() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _internet = internet(&host);
    host.prepare();
    let guest = host.boot(0, 1);
    let neighbour = host.boot(1, 1);
    // Servers in both namespaces, on the same port.
    let [outside, inside] = [host.ns.clone(), host.inside()];
    let udp = outside.udp("[::]:0");
    let port = udp.local_addr().unwrap().port();
    let udp = [udp, inside.udp(&format!("[::]:{port}"))];
    let tcp =
        [&outside, &inside].map(|ns| ns.run(move || TcpListener::bind(("::", port)).unwrap()));
    let link = host.ns.sh(&format!(
        "ip -o addr show dev ud{}-host | awk '{{print $4}}' | cut -d/ -f1",
        host.tag()
    ));
    let [link4, link6] = <[&str; 2]>::try_from(link.lines().collect::<Vec<_>>()).unwrap();
    let targets: [std::net::IpAddr; 8] = [
        link4.parse().unwrap(),
        link6.parse().unwrap(),
        guest.addresses.ipv4_gateway.into(),
        guest.addresses.ipv6_gateway.into(),
        neighbour.addresses.ipv4_gateway.into(),
        neighbour.addresses.ipv6_gateway.into(),
        "203.0.113.2".parse().unwrap(),
        "2001:db8::2".parse().unwrap(),
    ];
    for target in targets {
        let bind = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        guest.ns.udp(bind).send_to(b"knock", (target, port)).unwrap();
        guest.ns.run(move || {
            use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
            let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket =
                socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            // The SYN is on its way when this returns.
            let answer = connect(&socket, &SocketAddr::new(target, port));
            assert_eq!(answer, Err(rustix::io::Errno::INPROGRESS));
        });
    }
    // Same path, later: when this is answered, the knocks have been judged.
    guest.ns.pings(guest.addresses.ipv4_gateway.into());
    guest.ns.pings(guest.addresses.ipv6_gateway.into());
    for (udp, tcp) in udp.iter().zip(&tcp) {
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        assert_eq!(udp.recv_from(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    // The rules counted them all, two for each target: four gateways are in the
    // namespace, four addresses are the host's.
    let dropped = |chain: &str| -> u32 {
        let list = format!("nft -j list chain inet updraft_{} {chain}", host.tag());
        let rules: serde_json::Value = serde_json::from_str(&inside.sh(&list)).unwrap();
        let rules = rules["nftables"].as_array().unwrap();
        let exprs = rules.iter().filter_map(|rule| rule["rule"]["expr"].as_array()).flatten();
        exprs.filter_map(|expr| expr["counter"]["packets"].as_u64()).sum::<u64>() as u32
    };
    assert_eq!((dropped("input"), dropped("host_addresses")), (8, 8));
}

#[test]
fn egress_is_masqueraded_and_metadata_services_are_out_of_reach() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.block_egress = vec!["198.51.100.0/24".parse().unwrap()];
    let internet = internet(&host);
    internet.sh("ip addr add 198.51.100.9/32 dev wan");
    host.prepare();
    let guest = host.boot(0, 1);
    let sink = internet.udp("[::]:0");
    let port = sink.local_addr().unwrap().port();
    let sender = guest.ns.udp("0.0.0.0:0");
    for forbidden in ["169.254.169.254", "198.51.100.9", "172.30.200.2"] {
        sender.send_to(b"forbidden", (forbidden, port)).unwrap();
    }
    sender.send_to(b"allowed", ("203.0.113.1", port)).unwrap();
    let (word, from) = recv(&sink);
    assert_eq!(word, "allowed");
    assert_eq!(from.ip().to_string(), "::ffff:203.0.113.2");
    // The answer finds its way back.
    sink.send_to(b"answer", from).unwrap();
    assert_eq!(recv(&sender).0, "answer");

    let sender = guest.ns.udp("[::]:0");
    sender.send_to(b"six", ("2001:db8::1", port)).unwrap();
    let (word, from) = recv(&sink);
    assert_eq!((word.as_str(), from.ip().to_string().as_str()), ("six", "2001:db8::2"));
}

#[test]
fn a_guest_cannot_fill_the_connection_table_of_the_host() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_flows = Some(4);
    let internet = internet(&host);
    host.prepare();
    let (greedy, neighbour) = (host.boot(0, 1), host.boot(1, 1));
    let sink = internet.udp("0.0.0.0:4000");
    let world = ("203.0.113.1", 4000);
    let senders: Vec<_> = (0..6).map(|_| greedy.ns.udp("0.0.0.0:0")).collect();
    for (number, sender) in senders.iter().enumerate() {
        sender.send_to(format!("flow {number}").as_bytes(), world).unwrap();
    }
    // A flow that sends on without an answer stays one.
    for _ in 0..8 {
        senders[0].send_to(b"more", world).unwrap();
    }
    neighbour.ns.udp("0.0.0.0:0").send_to(b"neighbour", world).unwrap();
    let mut received: Vec<_> = (0..13).map(|_| recv(&sink).0).collect();
    received.sort();
    received.dedup();
    assert_eq!(received, ["flow 0", "flow 1", "flow 2", "flow 3", "more", "neighbour"]);
    let chain = format!("nft list chain inet updraft_{} new_0000", host.tag());
    assert!(host.inside().sh(&chain).contains("ct count over 4 counter packets 2 "));
    // A flow that the host begins does not count for the guest.
    let inside = greedy.ns.udp("0.0.0.0:5000");
    host.inside().udp("0.0.0.0:0").send_to(b"host", (greedy.addresses.ipv4, 5000)).unwrap();
    assert_eq!(recv(&inside).0, "host");
}

#[test]
fn all_guests_together_leave_room_in_the_connection_table_of_the_host() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_flows = Some(400);
    // Two in each of the 256 parts.
    host.config.max_flows_of_all = Some(512);
    let internet = internet(&host);
    host.prepare();
    let guests = [host.boot(0, 1), host.boot(1, 1)];
    let sink = internet.udp("0.0.0.0:4000");
    let world = ("203.0.113.1", 4000);
    let firsts = [&guests[0], &guests[1]].map(|guest| guest.ns.udp("0.0.0.0:0"));
    for first in &firsts {
        first.send_to(b"first", world).unwrap();
        assert_eq!(recv(&sink).0, "first");
    }
    let mut arrived = firsts.len();
    for (guest, first) in guests.iter().zip(&firsts) {
        let senders: Vec<_> = (0..300).map(|_| guest.ns.udp("0.0.0.0:0")).collect();
        // As many at a time as the sink holds.
        for some in senders.chunks(50) {
            some.iter().for_each(|sender| assert_eq!(sender.send_to(b"flow", world).unwrap(), 4));
            // The path keeps the order, and an open flow stays open: with this, those
            // that passed have arrived.
            first.send_to(b"end", world).unwrap();
            let words = std::iter::repeat_with(|| recv(&sink).0);
            arrived += words.take_while(|word| word != "end").count();
        }
    }
    assert!((300..=512).contains(&arrived), "{arrived} of 602 flows passed");
    // As much in the table of the host; the host's own flows are not limited.
    let count = host.ns.sh("cat /proc/sys/net/netfilter/nf_conntrack_count");
    assert!(count.trim().parse::<usize>().unwrap() <= arrived, "{count}");
    let inside = guests[0].ns.udp("0.0.0.0:5000");
    host.inside().udp("0.0.0.0:0").send_to(b"host", (guests[0].addresses.ipv4, 5000)).unwrap();
    assert_eq!(recv(&inside).0, "host");
}

/// The flows of one network between its machines are entries of no table: a guest
/// could fill it with them, and they would outlive the machine.
#[test]
fn a_flood_over_6pn_leaves_no_entry_in_the_connection_table() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_flows = Some(4);
    host.prepare();
    let (greedy, peer) = (host.boot(0, 1), host.boot(1, 1));
    let entries = || {
        let count = host.inside().sh("cat /proc/sys/net/netfilter/nf_conntrack_count");
        count.trim().parse::<u32>().unwrap()
    };
    let before = entries();
    let sink = peer.ns.udp("[::]:4000");
    for _ in 0..200 {
        greedy.ns.udp("[::]:0").send_to(b"flow", (peer.addresses.ipv6, 4000)).unwrap();
        assert_eq!(recv(&sink).0, "flow");
    }
    let listener = peer.ns.run(|| TcpListener::bind("[::]:80").unwrap());
    let address = SocketAddr::from((peer.addresses.ipv6, 80));
    let mut near = greedy.ns.run(move || TcpStream::connect(address).unwrap());
    let (mut far, _) = listener.accept().unwrap();
    far.write_all(b"pong").unwrap();
    near.read_exact(&mut [0; 4]).unwrap();
    greedy.ns.pings(peer.addresses.ipv6.into());
    assert_eq!(entries(), before);
    // The gateway is no machine: that flow has an entry, and counts.
    greedy.ns.pings(greedy.addresses.ipv6_gateway.into());
    assert_eq!(entries(), before + 1);
}

#[test]
fn the_world_reaches_no_guest_uninvited() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let internet = internet(&host);
    internet.sh(
        "ip route add 172.30.0.0/16 via 203.0.113.2; ip -6 route add fdaa::/16 via 2001:db8::2",
    );
    host.prepare();
    let guest = host.boot(0, 1);
    let sink = guest.ns.udp("[::]:0");
    let port = sink.local_addr().unwrap().port();
    internet.udp("0.0.0.0:0").send_to(b"world", (guest.addresses.ipv4, port)).unwrap();
    internet.udp("[::]:0").send_to(b"world", (guest.addresses.ipv6, port)).unwrap();
    internet.pings("203.0.113.2".parse().unwrap());
    host.inside().udp("0.0.0.0:0").send_to(b"host", (guest.addresses.ipv4, port)).unwrap();
    assert_eq!(recv(&sink).0, "host");
}

#[test]
fn a_slot_given_to_another_machine_inherits_no_flow() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let internet = internet(&host);
    host.prepare();
    let first = host.boot(0, 1);
    let world = internet.udp("0.0.0.0:4000");
    first.ns.udp("0.0.0.0:5000").send_to(b"hello", ("203.0.113.1", 4000)).unwrap();
    let (_, back) = recv(&world);
    let listener = first.ns.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let address = SocketAddr::from((first.addresses.ipv4, 80));
    let mut near = host.inside().run(move || TcpStream::connect(address).unwrap());
    let _far = listener.accept().unwrap();
    drop(first);
    host.net(|net| async move { net.detach(Slot(0)).await.unwrap() });

    let second = host.boot(0, 2);
    let sink = second.ns.udp("0.0.0.0:5000");
    world.send_to(b"for the first", back).unwrap();
    internet.pings("203.0.113.2".parse().unwrap());
    host.inside()
        .udp("0.0.0.0:0")
        .send_to(b"for the second", (second.addresses.ipv4, 5000))
        .unwrap();
    assert_eq!(recv(&sink).0, "for the second");
    // The host's connection to the first ends as soon as it is used.
    let _ = near.write_all(b"secret");
    assert_eq!(near.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn attach_replaces_and_detach_of_nothing_is_fine() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    // Before there is anything at all, and with the table alone.
    host.net(|net| async move { net.detach(Slot(3)).await.unwrap() });
    host.net(|net| async move { net.remove_all().await.unwrap() });
    host.prepare();
    let empty = host.state();
    host.net(|net| async move { net.detach(Slot(3)).await.unwrap() });
    let first = host.boot(3, 1);
    assert_eq!(host.slots(), [3]);
    let second = host.boot(3, 2);
    assert_eq!(host.slots(), [3]);
    second.ns.pings(second.addresses.ipv6_gateway.into());
    // The first VM's process ends late; it has no part in the new tap.
    drop(first);
    second.ns.pings(second.addresses.ipv4_gateway.into());
    // A part of the rules is missing: the rest goes all the same.
    host.inside()
        .sh(&format!("nft delete element inet updraft_{0} flows {{ ud{0}0003 }}", host.tag()));
    host.net(|net| async move { net.detach(Slot(3)).await.unwrap() });
    host.net(|net| async move { net.detach(Slot(3)).await.unwrap() });
    assert_eq!(host.slots(), [] as [u16; 0]);
    assert_eq!(host.state(), empty);
}

#[test]
fn a_crash_leaves_nothing_that_is_not_listed_and_removed() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _internet = internet(&host);
    host.ns.sh("nft add table inet foreign; nft add chain inet foreign c '{ type filter hook forward priority 0; policy drop; }'");
    let before = host.ns.state();
    host.prepare();
    // Slot 4 has a VM that runs on, the VM of slot 5 ended with the daemon, and
    // the VM of slot 6 lost its rules.
    let held = host.boot(4, 1);
    drop(host.boot(5, 1));
    let bare = host.boot(6, 1);
    host.inside().sh("nft flush ruleset");
    assert_eq!(host.slots(), [4, 6]);
    host.prepare();
    let (link, gone) = (host.link(6, 1), host.link(5, 1));
    host.net(move |net| async move {
        net.adopt(link).await.unwrap();
        let refused = net.adopt(gone).await.unwrap_err().to_string();
        assert!(refused.contains("no VM has it open"), "{refused}");
    });
    bare.ns.pings(bare.addresses.ipv4_gateway.into());
    drop(host.boot(8, 1));
    assert_eq!(host.slots(), [4, 6, 8]);
    host.net(|net| async move { net.detach(Slot(6)).await.unwrap() });
    assert_eq!(host.slots(), [4, 8]);
    host.net(|net| async move { net.remove_all().await.unwrap() });
    host.net(|net| async move { net.remove_all().await.unwrap() });
    assert_eq!(host.ns.state(), before);
    drop(held);
}

#[test]
fn many_machines_come_and_go_at_once() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let before = host.state();
    let links: Vec<_> = (0..24).map(|slot| host.link(slot, 1)).collect();
    host.net(move |net| async move {
        let nics = futures_util::future::join_all(links.iter().map(|link| net.attach(*link))).await;
        let nics: Vec<_> = nics.into_iter().map(|nic| nic.expect("attach")).collect();
        assert_eq!(net.list().await.unwrap().len(), 24);
        let done = futures_util::future::join_all(links.iter().map(|link| net.detach(link.slot)));
        done.await.into_iter().for_each(|done| done.expect("detach"));
        drop(nics);
    });
    assert_eq!(host.state(), before);
}

#[test]
fn doctor_names_a_foreign_firewall() {
    if !can_run() {
        return;
    }
    use diagnostics::Finding;
    use network_linux::checks::network;
    let host = Host::new();
    let config = host.config.clone();
    let checks = host.net(move |_| async move { network(&config).await });
    assert!(checks.iter().all(|check| check.finding != Finding::Broken), "{checks:?}");
    assert!(
        checks.iter().any(|c| c.name == "forwarding" && c.finding == Finding::Weak),
        "{checks:?}"
    );
    host.prepare();
    host.ns.sh("nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'");
    let config = host.config.clone();
    let checks = host.net(move |_| async move { network(&config).await });
    let bad: Vec<_> = checks.iter().filter(|check| check.finding != Finding::Good).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(bad[0].found.contains("ip filter FORWARD"), "{bad:?}");
}
