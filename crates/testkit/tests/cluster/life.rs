//! The life of machines on three hosts.

use serde_json::Value;
use std::collections::BTreeSet;
use testkit::cluster::{Cluster, ClusterOptions};

fn field<'a>(machines: &'a [Value], name: &str) -> Vec<&'a str> {
    machines.iter().map(|machine| machine[name].as_str().unwrap_or_default()).collect()
}

#[test]
fn machines_of_one_app_live_on_three_hosts() {
    Cluster::run(ClusterOptions::default(), async |cluster| {
        cluster.app("web").await;
        let mut ids = Vec::new();
        for _ in 0..6 {
            ids.push(cluster.create("web", Value::Null).await);
        }
        ids.sort();
        let mut owners = BTreeSet::new();
        for id in &ids {
            cluster.wait("web", *id, "started").await;
            owners.insert(cluster.record(*id).await.unwrap().owner);
        }
        assert_eq!(owners.len(), 3, "the machines are spread over all hosts");
        let listed = cluster.list("web").await;
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(field(&listed, "id"), texts);
        assert_eq!(field(&listed, "host_status"), ["ok"; 6]);
        for what in ["name", "private_ip", "private_ipv4"] {
            let distinct: BTreeSet<&str> = field(&listed, what).into_iter().collect();
            assert_eq!(distinct.len(), 6, "{what}: {distinct:?}");
        }

        for id in &ids {
            let answer = cluster.post("web", *id, "stop").await;
            assert_eq!(answer.0, 200, "{answer:?}");
            cluster.wait("web", *id, "stopped").await;
        }
        let woken = cluster.request("web").await.machine();
        assert!(ids.contains(&woken));
        let listed = cluster.list("web").await;
        let up = listed.iter().filter(|machine| machine["state"] == "started");
        assert_eq!(up.count(), 1, "one request wakes one machine");

        for id in &ids {
            let answer = cluster.destroy("web", *id).await;
            assert_eq!(answer.0, 200, "{answer:?}");
            cluster.wait("web", *id, "destroyed").await;
        }
        assert_eq!(cluster.list("web").await, Vec::<Value>::new());
        assert_eq!(cluster.request("web").await.status, 404, "no machine, no app at the edge");
    });
}

#[test]
fn a_killed_worker_finds_its_machines_again() {
    Cluster::run(ClusterOptions::default(), async |cluster| {
        cluster.app("web").await;
        let id = cluster.create("web", Value::Null).await;
        cluster.wait("web", id, "started").await;
        let owner = cluster.record(id).await.unwrap().owner;
        let vms = cluster.host(owner).world().hypervisor.alive();
        cluster.kill(owner);
        assert_eq!(cluster.list("web").await[0]["host_status"], "unreachable");
        cluster.restart(owner);
        cluster.settle().await;
        assert_eq!(cluster.request("web").await.machine(), id);
        assert_eq!(cluster.host(owner).world().hypervisor.alive(), vms, "it is the same VM");
    });
}
