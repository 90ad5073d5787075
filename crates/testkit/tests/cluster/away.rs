//! One host cannot be reached.

use model::id::{HostId, MachineId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testkit::cluster::{Cluster, ClusterOptions};
use tokio::time::Instant;

/// Longer than control waits for an answer to a question, shorter than for a change.
const READ: Duration = Duration::from_secs(10);
/// Longer than the edge waits for one connection, shorter than it tries others.
const CONNECT: Duration = Duration::from_millis(5100);
/// Longer than control waits for a change.
const CHANGE: Duration = Duration::from_secs(61);

/// Two machines on each host, all started, with their owners.
async fn machines(cluster: &Cluster) -> BTreeMap<MachineId, HostId> {
    cluster.app("web").await;
    let mut owners = BTreeMap::new();
    for _ in 0..2 * cluster.host_ids().len() {
        let id = cluster.create("web", Value::Null).await;
        cluster.wait("web", id, "started").await;
        owners.insert(id, cluster.record(id).await.unwrap().owner);
    }
    owners
}

/// `host_status` by id.
fn status(machines: &[Value]) -> BTreeMap<&str, &str> {
    machines.iter().filter_map(|m| Some((m["id"].as_str()?, m["host_status"].as_str()?))).collect()
}

#[test]
fn a_host_that_is_cut_off_is_missed_for_its_own_machines_only() {
    Cluster::run(ClusterOptions::default(), async |cluster| {
        let owners = machines(cluster).await;
        let lost = HostId(2);
        let of = |host: HostId| owners.iter().find(|(_, owner)| **owner == host).map(|(id, _)| *id);
        let (there, gone) = (of(HostId(1)).unwrap(), of(lost).unwrap());
        cluster.cut_off(lost);

        let listed = cluster.jump_during(READ, cluster.list("web")).await;
        for (id, owner) in &owners {
            let expected = if *owner == lost { "unreachable" } else { "ok" };
            assert_eq!(status(&listed)[id.to_string().as_str()], expected, "host {owner}");
        }
        let path = format!("/v1/apps/web/machines/{gone}");
        let (code, machine) = cluster.jump_during(READ, cluster.get(&path)).await;
        assert_eq!((code, &machine["host_status"]), (200, &"unreachable".into()));
        assert_eq!(machine["name"], cluster.record(gone).await.unwrap().name.as_str());

        let stop = cluster.post("web", gone, "stop");
        let (code, refused) = cluster.jump_during(CHANGE, stop).await;
        assert!(code == 503 || code == 504 || code == 408, "{code} {refused}");
        let why = refused["error"].as_str().unwrap();
        assert!(why.contains("host"), "{why}");

        assert_eq!(cluster.post("web", there, "stop").await.0, 200);
        cluster.wait("web", there, "stopped").await;
        for _ in 0..20 {
            let served = cluster.jump_during(CONNECT, cluster.request("web")).await.machine();
            assert_ne!(owners[&served], lost, "the edge does not reach that host");
        }
        let new = cluster.jump_during(READ, cluster.create("web", Value::Null)).await;
        assert_ne!(cluster.record(new).await.unwrap().owner, lost);

        cluster.heal(lost);
        cluster.settle().await;
        let listed = cluster.list("web").await;
        assert_eq!(listed.len(), owners.len() + 1);
        assert!(status(&listed).values().all(|status| *status == "ok"), "{listed:?}");
    });
}

#[test]
fn a_host_whose_worker_is_gone_is_missed_at_once() {
    Cluster::run(ClusterOptions { hosts: 2, ..ClusterOptions::default() }, async |cluster| {
        let owners = machines(cluster).await;
        cluster.kill(HostId(1));
        // No time has to pass: the connection is refused.
        let listed = cluster.list("web").await;
        for (id, owner) in &owners {
            let expected = if *owner == HostId(1) { "unreachable" } else { "ok" };
            assert_eq!(status(&listed)[id.to_string().as_str()], expected);
        }
        let gone = owners.iter().find(|(_, owner)| **owner == HostId(1)).unwrap().0;
        let (code, refused) = cluster.post("web", *gone, "stop").await;
        assert_eq!(code, 503, "{refused}");
        cluster.restart(HostId(1));
        cluster.settle().await;
        let listed = cluster.list("web").await;
        assert!(status(&listed).values().all(|status| *status == "ok"), "{listed:?}");
    });
}

#[test]
fn requests_pass_over_a_lost_host_until_it_is_back() {
    /// How long the edge waits for a connection.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    let retries = |cluster: &Cluster| {
        let metrics = cluster.metrics();
        let line = metrics.lines().find(|line| line.starts_with("updraft_edge_retries_total"));
        line.unwrap().to_owned()
    };
    Cluster::run(ClusterOptions::default(), async |cluster| {
        let owners = machines(cluster).await;
        let lost = HostId(2);
        // From here on a connect that fails counts as a retry.
        let mut answered = BTreeSet::new();
        let all_answer = async || {
            answered.insert(cluster.request("web").await.machine());
            answered.len() == owners.len()
        };
        cluster.until("all machines have answered", all_answer).await;
        let before = retries(cluster);
        cluster.cut_off(lost);
        // In steps: pings are sent meanwhile, and have their time for an answer.
        for _ in 0..31 {
            cluster.jump(Duration::from_secs(1)).await;
        }
        for _ in 0..20 {
            let began = Instant::now();
            let served = cluster.request("web").await.machine();
            assert_ne!(owners[&served], lost);
            assert!(began.elapsed() < CONNECT_TIMEOUT, "{:?}", began.elapsed());
        }
        assert_eq!(retries(cluster), before, "that host was not even asked");
        cluster.heal(lost);
        cluster.settle().await;
        let is_back = async || owners[&cluster.request("web").await.machine()] == lost;
        cluster.until("the host gets requests again", is_back).await;
    });
}
