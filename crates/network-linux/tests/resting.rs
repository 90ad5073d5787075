//! Taps between two runs of a machine: what the next run finds, and what it
//! must not find.

// Test code, though clippy cannot tell outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Guest, Host, NetNs, can_run, internet, recv};
use model::address::Slot;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use worker::ports::Network;

/// Index of the tap of a slot: it tells one made anew.
fn index(ns: &NetNs, slot: u16) -> String {
    ns.sh(&format!("ip -o link | grep {slot:04x}: | cut -d: -f1"))
}

/// Frames that wait in a tap and hold these bytes.
fn frames_with(tap: &OwnedFd, bytes: &[u8]) -> usize {
    let before = fcntl_getfl(tap).unwrap();
    fcntl_setfl(tap, before | OFlags::NONBLOCK).unwrap();
    let mut frame = [0; 2048];
    let mut found = 0;
    while let Ok(length) = rustix::io::read(tap, &mut frame) {
        found += usize::from(frame[..length].windows(bytes.len()).any(|part| part == bytes));
    }
    fcntl_setfl(tap, before).unwrap();
    found
}

/// Does to a tap what a VM's process can do with the descriptor alone.
fn spoil(tap: &OwnedFd) {
    let tell = |request: libc::Ioctl, argument: libc::c_ulong| {
        // SAFETY: these requests take a number, or a pointer to what is read.
        let answer = unsafe { libc::ioctl(tap.as_raw_fd(), request, argument) };
        assert_eq!(answer, 0, "{request:x}: {}", std::io::Error::last_os_error());
    };
    let pointer = |value: &i32| std::ptr::from_ref(value) as libc::c_ulong;
    tell(libc::TUNSETVNETHDRSZ, pointer(&12));
    tell(libc::TUNSETSNDBUF, pointer(&1));
    tell(libc::TUNSETOFFLOAD, (libc::TUN_F_CSUM | libc::TUN_F_TSO4).into());
    tell(libc::TUNSETPERSIST, 1);
    tell(libc::TUNSETCARRIER, pointer(&0));
    // SAFETY: `ifreq` is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    tell(libc::SIOCGIFHWADDR, std::ptr::from_mut(&mut request) as libc::c_ulong);
    // SAFETY: the kernel has filled it in.
    unsafe { request.ifr_ifru.ifru_hwaddr.sa_data[5] ^= 1 };
    tell(libc::SIOCSIFHWADDR, std::ptr::from_mut(&mut request) as libc::c_ulong);
    fcntl_setfl(tap, OFlags::NONBLOCK).unwrap();
}

#[test]
fn the_next_run_finds_its_link_as_new() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, ns) = (host.link(7, 1), host.ns.clone());
    host.net(move |net| async move {
        let nic = net.attach(link).await.unwrap();
        let spare = nic.tap.try_clone().unwrap();
        let guest = Guest::new(nic, link.addresses);
        ns.pings(link.addresses.ipv4.into());
        let state = || ns.sh("ip -o link; ip -o addr | grep -v dynamic; nft -s list ruleset");
        let (before, tap) = (state(), index(&ns, 7));

        // Its VM ends. What is sent to it before anybody knows waits in the tap.
        drop(guest);
        let sender = ns.udp("0.0.0.0:0");
        sender.send_to(b"stale", (link.addresses.ipv4, 9)).unwrap();
        spoil(&spare);
        drop(spare);
        net.rest(link.slot).await;

        // The host is told at once, and nothing piles up.
        let refused = sender.send_to(b"stale", (link.addresses.ipv4, 9)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        let address = SocketAddr::from((link.addresses.ipv4, 80));
        let refused = ns.run(move || TcpStream::connect(address).unwrap_err());
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let nic = net.attach(link).await.unwrap();
        assert_eq!(index(&ns, 7), tap);
        assert_eq!(fcntl_getfl(&nic.tap).unwrap() & OFlags::NONBLOCK, OFlags::empty());
        assert_eq!(frames_with(&nic.tap, b"stale"), 0);
        assert_eq!(state(), before);
        // Frames have the header that the guest's card has.
        let guest = Guest::new(nic, link.addresses);
        ns.pings(link.addresses.ipv4.into());
        ns.pings(link.addresses.ipv6.into());
        guest.ns.pings(link.addresses.ipv4_gateway.into());
        drop(guest);
        net.detach(link.slot).await.unwrap();
        assert!(!ns.state().contains("0007"), "{}", ns.state());
    });
}

#[test]
fn flows_of_one_run_are_not_those_of_the_next() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_flows = 4;
    let internet = internet(&host);
    host.prepare();
    let (link, ns) = (host.link(0, 1), host.ns.clone());
    host.net(move |net| async move {
        let sink = internet.udp("0.0.0.0:4000");
        let world = ("203.0.113.1", 4000);
        let mut back = Vec::new();
        for _ in 0..3 {
            let guest = Guest::new(net.attach(link).await.unwrap(), link.addresses);
            // Its share is whole, whatever the last run has left.
            for port in 5000..5004 {
                let sender = guest.ns.udp(&format!("0.0.0.0:{port}"));
                sender.send_to(b"flow", world).unwrap();
                back.push(recv(&sink).1);
            }
            drop(guest);
            net.rest(link.slot).await;
        }
        let guest = Guest::new(net.attach(link).await.unwrap(), link.addresses);
        let inside: Vec<_> =
            (5000..5004).map(|port| guest.ns.udp(&format!("0.0.0.0:{port}"))).collect();
        back.iter().for_each(|old| assert_eq!(sink.send_to(b"old", old).unwrap(), 3));
        internet.pings("203.0.113.2".parse().unwrap());
        for (port, socket) in (5000..).zip(&inside) {
            ns.udp("0.0.0.0:0").send_to(b"host", (link.addresses.ipv4, port)).unwrap();
            assert_eq!(recv(socket).0, "host");
        }
    });
}

#[test]
fn only_so_many_rest_and_the_longest_resting_go_first() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_resting = 2;
    host.prepare();
    let links: Vec<_> = (0..4).map(|slot| host.link(slot, 1)).collect();
    host.net(move |net| async move {
        for link in &links {
            drop(net.attach(*link).await.unwrap());
        }
        for link in &links[..2] {
            net.rest(link.slot).await;
        }
        // One that was used again has not rested for long.
        let held = net.attach(links[0]).await.unwrap();
        net.rest(links[2].slot).await;
        assert_eq!(net.list().await.unwrap().len(), 4);
        drop(held);
        net.rest(links[0].slot).await;
        assert_eq!(net.list().await.unwrap(), [0, 2, 3].map(Slot));
        net.detach(links[2].slot).await.unwrap();
        net.rest(links[3].slot).await;
        assert_eq!(net.list().await.unwrap(), [0, 3].map(Slot));
        for link in &links {
            drop(net.attach(*link).await.unwrap());
        }
        assert_eq!(net.list().await.unwrap().len(), 4);
        net.remove_all().await.unwrap();
        assert_eq!(net.list().await.unwrap(), []);
    });
}

#[test]
fn what_somebody_removed_meanwhile_is_made_anew() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, ns, tag) = (host.link(3, 1), host.ns.clone(), host.tag());
    host.net(move |net| async move {
        drop(net.attach(link).await.unwrap());
        for harm in [
            "ip link del ud$tag0003",
            "ip link del ud$tag0003; ip tuntap add ud$tag0003 mode tap",
            "nft delete table inet updraft_$tag",
        ] {
            let before = index(&ns, 3);
            net.rest(link.slot).await;
            ns.sh(&harm.replace("$tag", &tag.to_string()));
            net.prepare().await.unwrap();
            let guest = Guest::new(net.attach(link).await.unwrap(), link.addresses);
            assert_ne!(index(&ns, 3), before, "{harm}");
            guest.ns.pings(link.addresses.ipv4_gateway.into());
            let forged = "172.30.0.99";
            guest.takes(&format!("{forged}/32"));
            let sink = ns.udp("0.0.0.0:0");
            let to = (link.addresses.ipv4_gateway, sink.local_addr().unwrap().port());
            guest.ns.udp(&format!("{forged}:0")).send_to(b"forged", to).unwrap();
            guest.ns.pings(link.addresses.ipv4_gateway.into());
            let pins = ns.sh(&format!("nft list chain inet updraft_{tag} pin_0003"));
            assert!(!pins.contains("counter packets 0 "), "{harm}: {pins}");
        }
    });
}

#[test]
fn a_crash_leaves_no_tap_that_rests_and_no_rule_that_is_not_removed() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let before = host.ns.state();
    let links = [host.link(1, 1), host.link(2, 1), host.link(3, 1)];
    // The VM in slot 3 outlives the daemon. Slot 2 is attached again though
    // nobody has detached it: its rules say that it rests.
    let guest = host.net(move |net| async move {
        for link in &links[..2] {
            drop(net.attach(*link).await.unwrap());
            net.rest(link.slot).await;
        }
        Guest::new(net.attach(links[2]).await.unwrap(), links[2].addresses)
    });
    assert!(!host.ns.state().contains("0001@") && !host.ns.sh("ip -o link").contains("0001"));
    assert_eq!(host.slots(), [1, 2, 3]);
    let ns = host.ns.clone();
    host.net(move |net| async move {
        net.prepare().await.unwrap();
        net.adopt(links[2]).await.unwrap();
        ns.pings(links[2].addresses.ipv4.into());
        assert!(net.adopt(links[0]).await.is_err());
        net.detach(links[0].slot).await.unwrap();
        let again = Guest::new(net.attach(links[1]).await.unwrap(), links[1].addresses);
        ns.pings(links[1].addresses.ipv4.into());
        drop(again);
        net.detach(links[1].slot).await.unwrap();
        // Nobody but the VM keeps an adopted tap: there is nothing to rest.
        drop(guest);
        net.rest(links[2].slot).await;
        assert_eq!(net.list().await.unwrap(), []);
    });
    assert_eq!(host.ns.state(), before);
}

#[test]
fn a_machine_that_rests_hears_nothing_of_its_network() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, other, ns) = (host.link(0, 1), host.link(1, 1), host.ns.clone());
    host.net(move |net| async move {
        let neighbour = Guest::new(net.attach(other).await.unwrap(), other.addresses);
        let nic = net.attach(link).await.unwrap();
        let watch = nic.tap.try_clone().unwrap();
        let guest = Guest::new(nic, link.addresses);
        neighbour.ns.pings(link.addresses.ipv6.into());
        let listener = guest.ns.run(|| TcpListener::bind("[::]:80").unwrap());
        drop(guest);
        net.rest(link.slot).await;
        let sender = neighbour.ns.udp("[::]:0");
        sender.send_to(b"knock", (link.addresses.ipv6, 80)).unwrap();
        neighbour.ns.pings(other.addresses.ipv6_gateway.into());
        let waiting = frames_with(&watch, b"knock");
        assert_eq!(waiting, 0, "{}", ns.state());
        drop(listener);
    });
}
