//! Private addresses that two hosts give to machines of different tenants.

use model::id::MachineId;
use rt::Rng;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testkit::cluster::{Cluster, ClusterOptions};

/// Longer than a slot rests before another machine gets it.
const QUARANTINE: Duration = Duration::from_secs(601);
const APPS: [&str; 4] = ["one", "two", "three", "four"];

/// Machines of each app.
type Machines = BTreeMap<&'static str, BTreeSet<MachineId>>;

/// Two requests to every app at once.
async fn ask(cluster: &Cluster, machines: &Machines) {
    let asked = APPS.iter().flat_map(|app| [*app, *app]).map(async |app| {
        let machine = cluster.request(app).await.machine();
        assert!(machines[app].contains(&machine), "{app} is answered by {machine} of another app");
    });
    futures_util::future::join_all(asked).await;
}

#[test]
fn no_request_reaches_a_machine_of_another_tenant() {
    let options = ClusterOptions { hosts: 2, seed: 1, same_addresses: true };
    Cluster::run(options, async |cluster| {
        let rng = Rng::seeded(options.seed);
        let mut machines = Machines::new();
        for app in APPS {
            cluster.app(app).await;
            for _ in 0..2 {
                let id = cluster.create(app, Value::Null).await;
                machines.entry(app).or_default().insert(id);
            }
        }
        let mut used: BTreeMap<String, BTreeSet<MachineId>> = BTreeMap::new();
        for _ in 0..12 {
            let app = APPS[rng.below(APPS.len())];
            let of_app = machines.get_mut(app).unwrap();
            let id = *of_app.iter().nth(rng.below(of_app.len())).unwrap();
            match rng.below(3) {
                // A request meanwhile wakes it again, or goes to the other.
                0 => assert_eq!(cluster.post(app, id, "stop").await.0, 200),
                1 => drop(cluster.post(app, id, "restart?force_stop=true").await),
                _ => {
                    // Another machine gets its addresses.
                    let new = cluster.create(app, Value::Null).await;
                    of_app.insert(new);
                    assert_eq!(cluster.destroy(app, id).await.0, 200);
                    cluster.wait(app, id, "destroyed").await;
                    cluster.jump(QUARANTINE).await;
                    let newest = cluster.create(app, Value::Null).await;
                    of_app.insert(newest);
                    ask(cluster, &machines).await;
                    machines.get_mut(app).unwrap().remove(&id);
                }
            }
            for _ in 0..4 {
                ask(cluster, &machines).await;
            }
            for app in APPS {
                for machine in cluster.list(app).await {
                    let address = machine["private_ipv4"].as_str().unwrap().to_owned();
                    let id = machine["id"].as_str().unwrap().parse().unwrap();
                    used.entry(address).or_default().insert(id);
                }
            }
        }
        let shared = used.values().filter(|machines| machines.len() > 1).count();
        assert!(shared >= 2, "addresses are used more than once: {used:?}");
    });
}
