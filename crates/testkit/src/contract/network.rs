//! The contract of [`Network`].

use model::address::{Ipv4Pool, Slot, plan};
use model::id::{HostId, NetworkId};
use std::net::Ipv4Addr;
use worker::ports::{Link, Network};

/// Checks a network of a host on which it has nothing yet; leaves nothing.
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

    // The VM holds its tap; a new daemon keeps the link.
    network.adopt(b).await.unwrap();
    network.adopt(b).await.expect("adopt twice is like once");

    drop(first);
    let again = network.attach(a).await.expect("attach of what is attached replaces it");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    drop(again);

    // Between two runs of a machine its link rests, and is found all the same.
    network.rest(a.slot).await;
    network.rest(a.slot).await;
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    let woken = network.attach(a).await.expect("attach after a rest");
    assert_eq!(woken.mac, a.addresses.mac);
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    drop(woken);
    network.rest(a.slot).await;
    network.detach(a.slot).await.unwrap();
    network.detach(a.slot).await.expect("detach twice succeeds");
    assert_eq!(network.list().await.unwrap(), [b.slot]);
    drop(other);
    network.detach(b.slot).await.unwrap();
    assert_eq!(network.list().await.unwrap(), []);
    resting(network, a, b).await;
    network.remove_all().await.unwrap();
    network.remove_all().await.expect("remove twice succeeds");
    assert_eq!(network.list().await.unwrap(), []);
}

/// Two links of which nothing is there; leaves one resting.
async fn resting(network: &impl Network, a: Link, b: Link) {
    network.rest(a.slot).await;
    assert_eq!(network.list().await.unwrap(), [], "nothing is there to rest");

    drop(network.attach(a).await.unwrap());
    for _ in 0..2 {
        network.rest(a.slot).await;
        assert_eq!(network.list().await.unwrap(), [a.slot], "rest twice is like once");
        assert!(network.adopt(a).await.is_err(), "no VM holds what rests");
    }
    let nic = network.attach(a).await.expect("attach of what rests");
    assert_eq!(nic.mac, a.addresses.mac);
    network.adopt(a).await.expect("a VM holds it again");
    let other = network.attach(b).await.expect("another beside it");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    drop((nic, other));

    network.rest(a.slot).await;
    drop(network.attach(link(a.slot.0, 8)).await.expect("another link in a slot that rests"));
    network.rest(a.slot).await;
    network.rest(b.slot).await;
    network.prepare().await.expect("prepare while taps rest");
    assert_eq!(sorted(network.list().await.unwrap()), [a.slot, b.slot]);
    network.detach(a.slot).await.expect("detach of what rests");
    network.detach(a.slot).await.expect("detach twice succeeds");
    assert_eq!(network.list().await.unwrap(), [b.slot]);
}

fn link(slot: u16, network: u32) -> Link {
    let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
    let network = NetworkId(network);
    let addresses = plan(pool, network, HostId(1), Slot(slot)).unwrap();
    Link { slot: Slot(slot), network, addresses }
}

fn sorted(mut slots: Vec<Slot>) -> Vec<Slot> {
    slots.sort();
    slots
}
