//! The contract of [`Network`].

use model::address::{Ipv4Pool, MachineNumber, Slot, of_machine};
use model::id::{HostId, NetworkId};
use std::net::Ipv4Addr;
use worker::ports::{Link, Network};

/// Checks a network that has nothing on its host yet; leaves nothing.
///
/// # Panics
/// It breaks the contract.
pub async fn network_contract(network: &impl Network) {
    let [a, b] = [link(0, 7), link(7, 7)];
    network.prepare().await.unwrap();
    assert_eq!(network.list().await.unwrap(), []);
    network.detach(a.slot).await.expect("detach of what is not attached succeeds");
    assert!(network.adopt(a).await.is_err(), "there is no tap to keep");

    let first = network.attach(a).await.unwrap();
    assert_eq!(first.mac, a.addresses.mac);
    let other = network.attach(b).await.unwrap();
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    network.prepare().await.expect("prepare again");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);

    // The VM has its tap open; a new daemon takes the link over.
    network.adopt(b).await.unwrap();
    network.adopt(b).await.expect("adopt twice is like once");

    drop(first);
    let again = network.attach(a).await.expect("attach of what is attached replaces it");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    drop(again);

    // Between two runs of a machine its link is parked, and listed all the same.
    network.park(a.slot).await;
    network.park(a.slot).await;
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    let unparked = network.attach(a).await.expect("attach after park");
    assert_eq!(unparked.mac, a.addresses.mac);
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    drop(unparked);
    network.park(a.slot).await;
    network.detach(a.slot).await.unwrap();
    network.detach(a.slot).await.expect("detach twice succeeds");
    assert_eq!(network.list().await.unwrap(), [b.slot]);
    drop(other);
    network.detach(b.slot).await.unwrap();
    assert_eq!(network.list().await.unwrap(), []);
    parking(network, a, b).await;
    network.remove_all().await.unwrap();
    network.remove_all().await.expect("remove twice succeeds");
    assert_eq!(network.list().await.unwrap(), []);
}

/// Two links without taps; leaves the second parked.
async fn parking(network: &impl Network, a: Link, b: Link) {
    network.park(a.slot).await;
    assert_eq!(network.list().await.unwrap(), [], "there is nothing to park");

    drop(network.attach(a).await.unwrap());
    for _ in 0..2 {
        network.park(a.slot).await;
        assert_eq!(network.list().await.unwrap(), [a.slot], "park twice is like once");
        assert!(network.adopt(a).await.is_err(), "no VM has a parked tap");
    }
    let nic = network.attach(a).await.expect("attach of a parked link");
    assert_eq!(nic.mac, a.addresses.mac);
    network.adopt(a).await.expect("a VM holds it again");
    let other = network.attach(b).await.expect("another beside it");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    drop((nic, other));

    network.park(a.slot).await;
    drop(network.attach(link(a.slot.0, 8)).await.expect("another link in a parked slot"));
    network.park(a.slot).await;
    network.park(b.slot).await;
    network.prepare().await.expect("prepare while taps are parked");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    network.detach(a.slot).await.expect("detach of a parked slot");
    network.detach(a.slot).await.expect("detach twice succeeds");
    assert_eq!(network.list().await.unwrap(), [b.slot]);
}

fn link(slot: u16, network: u32) -> Link {
    let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
    let network = NetworkId(network);
    let number = MachineNumber::of_slot(HostId(1), Slot(slot));
    let addresses = of_machine(pool, Slot(slot), network, number).unwrap();
    Link { slot: Slot(slot), network, addresses }
}

fn sorted(mut slots: Vec<Slot>) -> Vec<Slot> {
    slots.sort();
    slots
}
