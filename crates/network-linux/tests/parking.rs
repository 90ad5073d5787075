//! Parked taps: what the next run of a machine finds, and what it must not find.

// Test code, which clippy does not recognise outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Guest, Host, can_run, frames_with, internet, recv, tap_index};
use model::address::Slot;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use worker::ports::Network;

/// Changes everything about a tap that a VM's process can with the descriptor.
fn spoil(tap: &OwnedFd) {
    let set = |request: libc::Ioctl, argument: libc::c_ulong| {
        // SAFETY: these requests take a number, or a pointer to what is read.
        let answer = unsafe { libc::ioctl(tap.as_raw_fd(), request, argument) };
        assert_eq!(answer, 0, "{request:x}: {}", std::io::Error::last_os_error());
    };
    let pointer = |value: &i32| std::ptr::from_ref(value) as libc::c_ulong;
    set(libc::TUNSETVNETHDRSZ, pointer(&12));
    set(libc::TUNSETSNDBUF, pointer(&1));
    set(libc::TUNSETOFFLOAD, (libc::TUN_F_CSUM | libc::TUN_F_TSO4).into());
    set(libc::TUNSETPERSIST, 1);
    set(libc::TUNSETCARRIER, pointer(&0));
    // SAFETY: `ifreq` is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    set(libc::SIOCGIFHWADDR, std::ptr::from_mut(&mut request) as libc::c_ulong);
    // SAFETY: the kernel has filled it in.
    unsafe { request.ifr_ifru.ifru_hwaddr.sa_data[5] ^= 1 };
    set(libc::SIOCSIFHWADDR, std::ptr::from_mut(&mut request) as libc::c_ulong);
    fcntl_setfl(tap, OFlags::NONBLOCK).unwrap();
}

#[test]
fn the_next_run_finds_its_link_as_new() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, ns) = (host.link(7, 1), host.inside());
    host.net(move |net| async move {
        let nic = net.attach(link).await.unwrap();
        let spare = nic.tap.try_clone().unwrap();
        let guest = Guest::new(nic, link.addresses);
        ns.pings(link.addresses.ipv4.into());
        // The kernel notices the state of a link a while later.
        let state = || ns.sh("ip -o link | sed 's/ state [A-Z]*//'; ip -o addr | grep -v dynamic; nft -s list ruleset");
        let (before, tap) = (state(), tap_index(&ns, 7));

        // Its VM ends. What is sent before the worker knows stays in the queue.
        drop(guest);
        let sender = ns.udp("0.0.0.0:0");
        sender.send_to(b"stale", (link.addresses.ipv4, 9)).unwrap();
        spoil(&spare);
        drop(spare);
        net.park(link.slot).await;

        // The sender gets an error at once, and the queue stays empty.
        let refused = sender.send_to(b"stale", (link.addresses.ipv4, 9)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        let address = SocketAddr::from((link.addresses.ipv4, 80));
        let refused = ns.run(move || TcpStream::connect(address).unwrap_err());
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let nic = net.attach(link).await.unwrap();
        assert_eq!(tap_index(&ns, 7), tap);
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
    host.config.max_flows = Some(4);
    let internet = internet(&host);
    host.prepare();
    let (link, ns) = (host.link(0, 1), host.inside());
    host.net(move |net| async move {
        let sink = internet.udp("0.0.0.0:4000");
        let world = ("203.0.113.1", 4000);
        let mut back = Vec::new();
        for _ in 0..3 {
            let guest = Guest::new(net.attach(link).await.unwrap(), link.addresses);
            // Its share is whole, regardless of the last run.
            for port in 5000..5004 {
                let sender = guest.ns.udp(&format!("0.0.0.0:{port}"));
                sender.send_to(b"flow", world).unwrap();
                back.push(recv(&sink).1);
            }
            drop(guest);
            net.park(link.slot).await;
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
fn only_so_many_are_parked_and_the_longest_parked_are_removed_first() {
    if !can_run() {
        return;
    }
    let mut host = Host::new();
    host.config.max_parked = 2;
    host.prepare();
    let links: Vec<_> = (0..4).map(|slot| host.link(slot, 1)).collect();
    host.net(move |net| async move {
        for link in &links {
            drop(net.attach(*link).await.unwrap());
        }
        for link in &links[..2] {
            net.park(link.slot).await;
        }
        // One that was used again was not parked for long.
        let held = net.attach(links[0]).await.unwrap();
        net.park(links[2].slot).await;
        assert_eq!(net.list().await.unwrap().len(), 4);
        drop(held);
        net.park(links[0].slot).await;
        assert_eq!(net.list().await.unwrap(), [0, 2, 3].map(Slot));
        net.detach(links[2].slot).await.unwrap();
        net.park(links[3].slot).await;
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
fn objects_removed_meanwhile_are_recreated() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, ns, tag) = (host.link(3, 1), host.inside(), host.tag());
    host.net(move |net| async move {
        drop(net.attach(link).await.unwrap());
        for harm in [
            "ip link del ud$tag0003",
            "ip link del ud$tag0003; ip tuntap add ud$tag0003 mode tap",
            "nft delete table inet updraft_$tag",
        ] {
            let before = tap_index(&ns, 3);
            net.park(link.slot).await;
            ns.sh(&harm.replace("$tag", &tag.to_string()));
            net.prepare().await.unwrap();
            let guest = Guest::new(net.attach(link).await.unwrap(), link.addresses);
            assert_ne!(tap_index(&ns, 3), before, "{harm}");
            guest.ns.pings(link.addresses.ipv4_gateway.into());
            let forged = "172.30.0.99";
            guest.add_address(&format!("{forged}/32"));
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
fn a_crash_leaves_no_parked_tap_and_no_rule_that_is_not_removed() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let before = host.state();
    let links = [host.link(1, 1), host.link(2, 1), host.link(3, 1)];
    // The VM in slot 3 outlives the daemon. Slot 2 is attached again though
    // it was never detached: its rules mark it as parked.
    let guest = host.net(move |net| async move {
        for link in &links[..2] {
            drop(net.attach(*link).await.unwrap());
            net.park(link.slot).await;
        }
        Guest::new(net.attach(links[2]).await.unwrap(), links[2].addresses)
    });
    assert!(!host.inside().sh("ip -o link").contains("0001"));
    assert_eq!(host.slots(), [1, 2, 3]);
    let ns = host.inside();
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
        // Only the VM has an adopted tap open: there is nothing to park.
        drop(guest);
        net.park(links[2].slot).await;
        assert_eq!(net.list().await.unwrap(), []);
    });
    assert_eq!(host.state(), before);
}

#[test]
fn a_parked_machine_receives_nothing_of_its_network() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let (link, other, ns) = (host.link(0, 1), host.link(1, 1), host.inside());
    host.net(move |net| async move {
        let neighbour = Guest::new(net.attach(other).await.unwrap(), other.addresses);
        let nic = net.attach(link).await.unwrap();
        let watch = nic.tap.try_clone().unwrap();
        let guest = Guest::new(nic, link.addresses);
        neighbour.ns.pings(link.addresses.ipv6.into());
        let listener = guest.ns.run(|| TcpListener::bind("[::]:80").unwrap());
        drop(guest);
        net.park(link.slot).await;
        let sender = neighbour.ns.udp("[::]:0");
        sender.send_to(b"knock", (link.addresses.ipv6, 80)).unwrap();
        neighbour.ns.pings(other.addresses.ipv6_gateway.into());
        let waiting = frames_with(&watch, b"knock");
        assert_eq!(waiting, 0, "{}", ns.state());
        drop(listener);
    });
}
