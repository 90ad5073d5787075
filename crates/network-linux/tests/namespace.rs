//! The platform's namespace: several platforms on one host, tools that change
//! the host's rules, closed private networks, sockets inside, taps that move in.

// Test code, which clippy does not recognise outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Guest, Host, NetNs, can_run, guest_namespace, internet, open_tap, recv};
use rustix::io::FdFlags;
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::skip::{Lacks, skip};
use worker::ports::{Network, Nic};

/// Waits until `done`, for something that the guard does. Polled: the guard changes
/// state of the kernel and reports to nothing else.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

fn uplink_rules(host: &Host) -> String {
    host.ns.sh(&format!("nft list table inet updraft_{}_uplink 2>/dev/null || true", host.tag()))
}

#[test]
fn two_platforms_on_one_host_never_meet() {
    if !can_run() {
        return;
    }
    let ns = NetNs::new();
    let platforms = ["/one", "/two"].map(|dir| Host::of(dir, ns.clone()));
    platforms.iter().for_each(Host::prepare);
    // The same slot in both: the same private IPv4 address, and the same 6PN one.
    let guests = platforms.each_ref().map(|host| host.boot(0, 1));
    assert_eq!(guests[0].addresses.ipv4, guests[1].addresses.ipv4);
    for ((host, guest), name) in platforms.iter().zip(&guests).zip(["one", "two"]) {
        let listener = guest.ns.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
        let address = SocketAddrV4::new(guest.addresses.ipv4, 80);
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(name.as_bytes()).unwrap();
        });
        let text = host.net(move |net| async move {
            net.prepare().await.unwrap();
            let stream = net.sockets().connect(address).await.unwrap();
            let mut stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(text, name);
        served.join().unwrap();
    }
    // Nothing of a machine is routed by the host, so none meets another there.
    let routes = ns.sh("ip route show table all; ip -6 route show table all");
    assert!(!routes.contains("172.30.") && !routes.contains("fdaa:"), "{routes}");
    let links = ns.sh("ip -o -4 addr | awk '/-host/ {print $4}' | sort -u | wc -l");
    assert_eq!(links.trim(), "2");
    // A guest reaches neither end of the other platform's link.
    let sender = guests[0].ns.udp("0.0.0.0:0");
    let [outside, inside] = [ns.clone(), platforms[1].inside()].map(|ns| ns.udp("0.0.0.0:5353"));
    for host in ["host", "uplink"] {
        let (ns, name) = match host {
            "host" => (&ns, format!("ud{}-host", platforms[1].tag())),
            _ => (&platforms[1].inside(), "uplink".to_owned()),
        };
        let to =
            ns.sh(&format!("ip -o -4 addr show dev {name} | awk '{{print $4}}' | cut -d/ -f1"));
        sender.send_to(b"knock", (to.trim(), 5353)).unwrap();
    }
    guests[0].ns.pings(guests[0].addresses.ipv4_gateway.into());
    for socket in [outside, inside] {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv_from(&mut [0; 8]).is_err(), "a knock came through");
    }
}

#[test]
fn a_flush_of_the_hosts_rules_opens_nothing_and_is_repaired() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let internet = internet(&host);
    host.prepare();
    let (guest, other) = (host.boot(0, 1), host.boot(1, 2));
    let complete = uplink_rules(&host);
    assert!(complete.contains("masquerade"), "{complete}");

    // No daemon runs, hence no guard.
    host.ns.sh("nft flush ruleset");
    assert_eq!(uplink_rules(&host), "");
    let service = host.ns.udp("0.0.0.0:5353");
    let sibling = other.ns.udp("[::]:5353");
    let metadata = internet.udp("0.0.0.0:5353");
    let sender = guest.ns.udp("0.0.0.0:0");
    for target in ["203.0.113.2", "169.254.169.254"] {
        sender.send_to(b"knock", (target, 5353)).unwrap();
    }
    sender.send_to(b"knock", (other.addresses.ipv4, 5353)).unwrap();
    guest.ns.udp("[::]:0").send_to(b"knock", (other.addresses.ipv6, 5353)).unwrap();
    guest.ns.pings(guest.addresses.ipv4_gateway.into());
    guest.ns.pings(guest.addresses.ipv6_gateway.into());
    for socket in [&service, &sibling, &metadata] {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv_from(&mut [0; 8]).is_err(), "a knock came through");
    }

    // With a daemon, the rules come back, and with them the way out.
    let ns = host.ns.clone();
    let (tag, expected) = (host.tag(), complete.clone());
    host.net(move |net| async move {
        net.prepare().await.unwrap();
        for harm in ["nft flush ruleset", &format!("ip link del ud{tag}-host")] {
            ns.sh(harm);
            let list = format!("nft list table inet updraft_{tag}_uplink 2>/dev/null || true");
            let link = format!("ip -o link show up dev ud{tag}-host 2>/dev/null || true");
            until(harm, || ns.sh(&list) == expected && !ns.sh(&link).is_empty());
        }
    });
    let sink = internet.udp("0.0.0.0:4000");
    guest.ns.udp("0.0.0.0:0").send_to(b"out", ("203.0.113.1", 4000)).unwrap();
    assert_eq!(recv(&sink).1.ip().to_string(), "203.0.113.2");
}

#[test]
fn rules_that_are_removed_from_the_namespace_come_back_and_let_nothing_through_meanwhile() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, inside) = (host.link(0, 1), host.inside());
    host.net(move |net| async move {
        net.prepare().await.unwrap();
        let guest = Guest::new(net.attach(link).await.unwrap(), link.addresses);
        let before = inside.sh("nft -s list ruleset");
        inside.sh("nft flush ruleset");
        until("the rules come back", || inside.sh("nft -s list ruleset") == before);
        guest.ns.pings(link.addresses.ipv4_gateway.into());
        // A machine that starts before the guard looks restores them itself.
        inside.sh("nft flush ruleset");
        let next = Host::new().link(1, 1);
        let nic = net.attach(next).await.unwrap();
        assert!(inside.sh("nft list ruleset").contains("pin_0001"));
        drop((nic, guest));
    });
}

#[test]
fn private_networks_and_those_of_the_host_are_closed_unless_they_are_allowed() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.allow_egress = vec!["10.9.0.0/16".parse().unwrap()];
    host.config.nameservers = vec!["192.168.7.7".parse().unwrap()];
    let internet = internet(&host);
    let closed = ["10.1.1.1", "172.20.1.1", "192.168.7.7", "100.64.1.1", "203.0.113.1"];
    let closed6 = ["fd12::1", "64:ff9b::a01:101", "64:ff9b:1::1", "2001:db8::1"];
    for address in [&closed[..4], &["10.9.1.1", "192.0.2.1"]].concat() {
        internet.sh(&format!("ip addr add {address}/32 dev wan"));
    }
    for address in [&closed6[..3], &["2001:db8:1::1"]].concat() {
        internet.sh(&format!("ip addr add {address}/128 dev wan nodad"));
    }
    host.prepare();
    let guest = host.boot(0, 1);
    let [sink, dns] = ["[::]:4000", "[::]:53"].map(|bind| internet.udp(bind));
    let senders = ["0.0.0.0:0", "[::]:0"].map(|bind| guest.ns.udp(bind));
    for target in closed {
        senders[0].send_to(target.as_bytes(), (target, 4000)).unwrap();
    }
    for target in closed6 {
        senders[1].send_to(target.as_bytes(), (target, 4000)).unwrap();
    }
    // Each on the same path, after all of those.
    for (sender, target) in
        [(&senders[0], "10.9.1.1"), (&senders[0], "192.0.2.1"), (&senders[1], "2001:db8:1::1")]
    {
        sender.send_to(target.as_bytes(), (target, 4000)).unwrap();
        assert_eq!(recv(&sink).0, target);
    }
    senders[0].send_to(b"query", ("192.168.7.7", 53)).unwrap();
    assert_eq!(recv(&dns).0, "query");

    // A network that the host gets later is closed as well.
    let ns = host.ns.clone();
    let (inside, tag) = (host.inside(), host.tag());
    host.net(move |net| async move {
        net.prepare().await.unwrap();
        ns.sh("ip link add later type veth peer name later2; ip link set later up;
               ip addr add 198.51.100.1/24 dev later");
        let list = format!("nft list table inet updraft_{tag}");
        until("the new network is closed", || {
            let rules = inside.sh(&list);
            rules.contains("ip daddr 198.51.100.0/24 counter")
                && rules.contains("ip daddr 198.51.100.1 counter")
        });
    });
}

#[test]
fn sockets_are_made_inside_however_many_are_used_at_once() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let guest = host.boot(0, 1);
    let listener = guest.ns.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let address = SocketAddrV4::new(guest.addresses.ipv4, 80);
    let inside = host.inside();
    host.net(move |net| async move {
        let sockets = net.sockets();
        let err = sockets.tcp4().unwrap_err().to_string();
        assert!(err.contains("not prepared"), "{err}");
        net.prepare().await.unwrap();
        // More than the stock.
        let taken: Vec<OwnedFd> = (0..300).map(|_| sockets.tcp4().unwrap()).collect();
        for socket in &taken {
            let flags = rustix::io::fcntl_getfd(socket).unwrap();
            assert!(flags.contains(FdFlags::CLOEXEC));
        }
        for _ in 0..200 {
            let stream = sockets.connect(address).await.unwrap();
            let (_, from) = listener.accept().unwrap();
            // The thread itself stays where it was.
            assert_eq!(
                SocketAddr::V4(match stream.local_addr().unwrap() {
                    SocketAddr::V4(own) => own,
                    SocketAddr::V6(own) => panic!("{own}"),
                }),
                from
            );
        }
        assert!(!inside.sh("ip -o link").is_empty());
        net.remove_all().await.unwrap();
        sockets.tcp4().unwrap_err();
    });
}

/// The objects that version 0.1 made: a tap in the daemon's own namespace, with a table.
fn earlier_version(host: &Host, slot: u16) -> OwnedFd {
    let (name, tag) = (host.tag().tap(model::address::Slot(slot)), host.tag());
    let link = host.link(slot, 1);
    let tap = name.clone();
    let fd = host.ns.run(move || open_tap(&tap));
    // The same MAC address as today, which guests have in their caches.
    let [a, b, c, d, e, f] = link.addresses.mac;
    host.ns.sh(&format!(
        "ip link set {name} address {:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} up
         ip addr add {}/30 dev {name}
         nft add table inet updraft_{tag}; nft add chain inet updraft_{tag} pin_{slot:04x}",
        a | 4,
        link.addresses.ipv4_gateway
    ));
    fd
}

#[test]
fn taps_of_an_earlier_version_are_moved_in_and_taken_over() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let (adopted, ended) = (earlier_version(&host, 3), earlier_version(&host, 4));
    assert_eq!(host.slots(), [3, 4], "also before anything is prepared");
    let link = host.link(3, 1);
    let nic = Nic { tap: adopted, mac: link.addresses.mac };
    let guest = Guest::new(nic, link.addresses);
    host.prepare();
    let outside = host.ns.sh("ip -o link; nft list tables");
    assert!(!outside.contains("0003") && !outside.contains(&format!("updraft_{}\n", host.tag())));
    assert_eq!(host.slots(), [3, 4]);
    host.net(move |net| async move { net.adopt(link).await.unwrap() });
    guest.ns.pings(link.addresses.ipv4_gateway.into());
    guest.ns.pings(link.addresses.ipv6_gateway.into());
    host.inside().pings(link.addresses.ipv4.into());
    drop(ended);
    // A downgrade aside, `down` removes what an earlier version left, too.
    let _left = earlier_version(&host, 5);
    host.net(|net| async move { net.remove_all().await.unwrap() });
    let outside = host.ns.sh("ip -o link; nft list tables");
    assert!(!outside.contains(&format!("ud{}", host.tag())), "{outside}");
    assert!(!outside.contains("updraft_"), "{outside}");
}

/// QEMU without a machine: it carries frames between a tap and a UDP socket.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn qemu(tap: &OwnedFd, own: u16, peer: u16) -> Option<Qemu> {
    let fd = tap.as_raw_fd();
    rustix::io::fcntl_setfd(tap, FdFlags::empty()).unwrap();
    let child = Command::new("qemu-system-x86_64")
        .args(["-M", "none", "-nodefaults", "-display", "none"])
        .args(["-netdev", &format!("tap,id=tap,fd={fd}")])
        .args(["-netdev", &format!("socket,id=udp,udp=127.0.0.1:{peer},localaddr=127.0.0.1:{own}")])
        .args(["-netdev", "hubport,id=a,hubid=0,netdev=tap"])
        .args(["-netdev", "hubport,id=b,hubid=0,netdev=udp"])
        .stdin(Stdio::null())
        .spawn();
    rustix::io::fcntl_setfd(tap, FdFlags::CLOEXEC).unwrap();
    child.ok().map(Qemu)
}

/// A frame of a tap starts with `struct virtio_net_hdr`; QEMU's sockets have none.
const HEADER: usize = 10;

/// Carries frames between a guest's interface and QEMU's socket, for the rest of
/// the test.
fn carry(card: OwnedFd, socket: UdpSocket) {
    let (card, socket) = (std::sync::Arc::new(card), std::sync::Arc::new(socket));
    let (from_card, to_qemu) = (card.clone(), socket.clone());
    std::thread::spawn(move || {
        let mut frame = vec![0; 1 << 16];
        while let Ok(length) = rustix::io::read(&*from_card, &mut frame) {
            let _ = to_qemu.send(&frame[HEADER..length]);
        }
    });
    std::thread::spawn(move || {
        let mut frame = vec![0; 1 << 16];
        loop {
            // QEMU's port may be closed at first, which a connected socket reports.
            if let Ok(length) = socket.recv(&mut frame[HEADER..]) {
                let _ = rustix::io::write(&*card, &frame[..HEADER + length]);
            }
        }
    });
}

#[test]
fn a_tap_moves_while_qemu_has_it_open() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let tap = earlier_version(&host, 7);
    let link = host.link(7, 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // QEMU takes a port that was free a moment ago.
    let spare = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(mut qemu) = qemu(&tap, spare, socket.local_addr().unwrap().port()) else {
        assert!(Command::new("qemu-system-x86_64").arg("--version").output().is_err());
        return skip("there is no qemu-system-x86_64", Lacks::Required);
    };
    // From here on only QEMU has it, as after the end of a daemon.
    drop(tap);
    socket.connect(("127.0.0.1", spare)).unwrap();
    let (guest, card) = guest_namespace(link.addresses.mac, &link.addresses);
    carry(card, socket);
    guest.pings(link.addresses.ipv4_gateway.into());

    host.prepare();
    host.net(move |net| async move { net.adopt(link).await.unwrap() });
    guest.pings(link.addresses.ipv4_gateway.into());
    guest.pings(link.addresses.ipv6_gateway.into());
    host.inside().pings(link.addresses.ipv4.into());
    assert!(qemu.0.try_wait().unwrap().is_none(), "QEMU runs on");
    drop(qemu);
    until("the tap ends with QEMU", || !host.inside().sh("ip -o link").contains("0007"));
}
