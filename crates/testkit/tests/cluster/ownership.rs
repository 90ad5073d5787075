//! A machine changes its owner while the former one cannot be reached.

use host_api::{CallContext, HostError, Machines, Stop};
use model::id::{Epoch, HostId, MachineId};
use serde_json::Value;
use std::time::Duration;
use testkit::cluster::{Cluster, ClusterOptions};

/// Longer than the edge and control take to notice that a host is gone.
const NOTICED: Duration = Duration::from_secs(31);

/// A started machine, its owner, and the other host of two.
async fn machine(cluster: &Cluster) -> (MachineId, HostId, HostId) {
    cluster.app("web").await;
    let id = cluster.create("web", Value::Null).await;
    cluster.wait("web", id, "started").await;
    let old = cluster.record(id).await.unwrap().owner;
    let new = cluster.host_ids().into_iter().find(|host| *host != old).unwrap();
    (id, old, new)
}

fn runs(cluster: &Cluster, id: MachineId, host: HostId) -> bool {
    cluster.host(host).world().hypervisor.alive().iter().any(|(machine, _)| *machine == id)
}

fn context() -> CallContext {
    CallContext::control(Duration::from_secs(60))
}

const TWO: ClusterOptions = ClusterOptions { hosts: 2, seed: 1, same_addresses: true };

#[test]
fn a_former_owner_that_returns_gives_the_machine_up() {
    Cluster::run(TWO, async |cluster| {
        let (id, old, new) = machine(cluster).await;
        cluster.cut_off(old);
        cluster.jump(NOTICED).await;
        let epoch = cluster.move_machine(id, new).await;
        assert_eq!(epoch, Epoch(2));
        cluster.wait("web", id, "started").await;
        assert!(runs(cluster, id, old), "the former owner does not know yet");

        cluster.heal(old);
        cluster.settle().await;
        // The control plane notifies it, without being asked to.
        cluster.reconcile().await;
        cluster
            .until("the former owner has removed the VM", async || !runs(cluster, id, old))
            .await;
        let refused = cluster.remote(old).start(context(), id).await;
        assert_eq!(refused, Err(HostError::NotMine { host: old, epoch: Some(epoch) }));
        let stale = cluster.remote(new).stop(context().at(Epoch(1)), id, Stop::default()).await;
        assert_eq!(stale, Err(HostError::StaleEpoch { sent: Epoch(1), known: epoch }));
        assert!(cluster.routes_of(old).await.is_empty(), "it announces it no more");

        cluster.kill(old);
        cluster.restart(old);
        cluster.settle().await;
        assert!(!runs(cluster, id, old), "not even after a restart of its worker");
        let listed = cluster.list("web").await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0]["state"], "started");
    });
}

#[test]
fn a_list_shows_a_machine_that_two_hosts_have_as_its_owner_has_it() {
    Cluster::run(TWO, async |cluster| {
        let (id, old, new) = machine(cluster).await;
        cluster.cut_off(old);
        cluster.jump(NOTICED).await;
        cluster.move_machine(id, new).await;
        cluster.wait("web", id, "started").await;
        cluster.heal(old);
        cluster.settle().await;
        cluster.post("web", id, "stop").await;
        cluster.wait("web", id, "stopped").await;
        // The former owner still lists it, as started.
        let listed = cluster.list("web").await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0]["state"], "stopped");
    });
}

#[test]
fn the_edge_follows_the_larger_epoch_whichever_host_comes_second() {
    Cluster::run(TWO, async |cluster| {
        let (id, old, new) = machine(cluster).await;
        assert_eq!(cluster.request("web").await.machine(), id);
        let of_old = cluster.routes_of(old).await.remove(0);
        // Control cannot reach the former owner, whose stream to the edge stays open.
        cluster.cut_off_from_control(old);
        let epoch = cluster.move_machine(id, new).await;
        cluster.wait("web", id, "started").await;
        let of_new = cluster.routes_of(new).await.remove(0);
        assert_eq!((of_old.epoch, of_new.epoch), (Epoch(1), epoch));
        let edge_has_it = async || cluster.admitted(&of_new, new).is_ok();
        cluster.until("the edge has the new route", edge_has_it).await;
        assert!(runs(cluster, id, old), "the former owner does not know");
        // Another stream of the former owner comes second.
        cluster.kill(old);
        cluster.jump(Duration::from_secs(3)).await;
        cluster.restart(old);
        cluster.jump(Duration::from_secs(3)).await;
        assert!(runs(cluster, id, old));
        let stale = cluster.admitted(&of_old, old).unwrap_err();
        assert!(
            matches!(stale, edge::Refusal::NotMine(_) | edge::Refusal::Stale { .. }),
            "{stale:?}"
        );
        // The VM of the new owner answers: that of the former one may end.
        let vm = cluster.host(old).world().hypervisor.clone();
        assert!(vm.guest(id, testkit::guest::GuestAction::CrashVm));
        for _ in 0..10 {
            assert_eq!(cluster.request("web").await.machine(), id);
        }
        assert!(cluster.admitted(&of_new, new).is_ok());
    });
}
