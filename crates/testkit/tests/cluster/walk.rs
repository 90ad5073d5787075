//! Random walks: after any events in any order, the platform is consistent again
//! once everything can be reached.

use host_api::{CallContext, MachineFilter, Machines, RouteState};
use model::id::{HostId, MachineId};
use rt::Rng;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;
use testkit::cluster::{Cluster, ClusterOptions};

const APPS: [&str; 2] = ["one", "two"];
const STEPS: usize = 25;
/// Longer than any call of control to a host.
const LONG: Duration = Duration::from_secs(61);
/// Longer than a claim, and than the reconcilers wait between two looks at all.
const RECONCILED: Duration = Duration::from_secs(130);

/// The steps so far, for the reader of a failure.
struct Walk<'a> {
    cluster: &'a mut Cluster,
    rng: Rng,
    seed: u64,
    machines: Vec<(&'static str, MachineId)>,
    /// Hosts that hang or will hang at a crash point until they are killed.
    armed: BTreeSet<HostId>,
    log: String,
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}:\n{}", self.seed, self.log);
        }
    }
}

impl Walk<'_> {
    fn note(&mut self, step: String) {
        writeln!(self.log, "  {step}").unwrap();
    }

    fn any_host(&self) -> HostId {
        let hosts = self.cluster.host_ids();
        hosts[self.rng.below(hosts.len())]
    }

    fn any_machine(&self) -> Option<(&'static str, MachineId)> {
        let count = self.machines.len();
        (count > 0).then(|| self.machines[self.rng.below(count)])
    }

    async fn step(&mut self) {
        match self.rng.below(14) {
            0..=3 => self.create().await,
            4 | 5 => self.change("stop").await,
            6 => self.change("start").await,
            7 => self.destroy().await,
            8 => self.wake().await,
            9 => {
                let host = self.any_host();
                self.note(format!("cut off host {host}"));
                self.cluster.cut_off(host);
            }
            10 => {
                let host = self.any_host();
                self.note(format!("heal host {host}"));
                self.cluster.heal(host);
            }
            11 => {
                let host = self.any_host();
                self.note(format!("answers of host {host} are lost"));
                self.cluster.lose_answers(host);
            }
            12 => {
                let (host, point) = (self.any_host(), self.rng.below(30) as u64 + 1);
                // A worker that starts would hang before it takes calls.
                if self.cluster.host(host).runs() {
                    self.note(format!("host {host} hangs at the crash point {point} from now"));
                    self.cluster.host(host).world().points.arm(point);
                    self.armed.insert(host);
                }
            }
            _ => {
                let host = self.any_host();
                self.armed.remove(&host);
                let runs = self.cluster.host(host).runs();
                self.note(format!("{} host {host}", if runs { "kill" } else { "restart" }));
                match runs {
                    true => self.cluster.kill(host),
                    false => self.cluster.restart(host),
                }
            }
        }
    }

    async fn create(&mut self) {
        let app = APPS[self.rng.below(APPS.len())];
        let created = self.cluster.try_create(app, Value::Null);
        let created = self.cluster.jump_during(LONG, created).await;
        self.note(format!("create in {app}: {created:?}"));
        self.machines.extend(created.ok().map(|id| (app, id)));
    }

    async fn change(&mut self, what: &str) {
        let Some((app, id)) = self.any_machine() else { return };
        let answer = self.cluster.jump_during(LONG, self.cluster.post(app, id, what)).await;
        self.note(format!("{what} {id}: {answer:?}"));
    }

    async fn destroy(&mut self) {
        let Some((app, id)) = self.any_machine() else { return };
        let answer = self.cluster.jump_during(LONG, self.cluster.destroy(app, id)).await;
        self.note(format!("destroy {id}: {answer:?}"));
    }

    async fn wake(&mut self) {
        let app = APPS[self.rng.below(APPS.len())];
        let answer = self.cluster.jump_during(LONG, self.cluster.request(app)).await;
        self.note(format!("request to {app}: {answer:?}"));
        if answer.status == 200 {
            // One whose create failed for its client may exist all the same.
            let id = answer.machine();
            let other = self.machines.iter().any(|(of, known)| *known == id && *of != app);
            assert!(!other, "{id} of another app answers for {app}");
        }
    }

    /// Everything can be reached again, and everybody has had time.
    async fn heal(&mut self) {
        self.note("heal everything".into());
        for host in self.cluster.host_ids() {
            self.cluster.heal(host);
            if self.armed.contains(&host) {
                self.cluster.kill(host);
            }
            if !self.cluster.host(host).runs() {
                self.cluster.restart(host);
            }
        }
        self.cluster.settle().await;
        self.cluster.jump(RECONCILED).await;
        self.cluster.reconcile().await;
        let cluster = &*self.cluster;
        let quiet = async || {
            let mut all = true;
            for machine in hosts_machines(cluster).await.into_values() {
                all &= ["started", "stopped", "destroyed"].contains(&machine.1.as_str());
            }
            all
        };
        cluster.until("every machine is up or down", quiet).await;
    }
}

/// Owner and state of every machine that a host has.
async fn hosts_machines(cluster: &Cluster) -> BTreeMap<MachineId, (HostId, String)> {
    let mut all = BTreeMap::new();
    for host in cluster.host_ids() {
        let filter = MachineFilter { include_deleted: true, ..MachineFilter::default() };
        let context = CallContext::control(LONG);
        let machines = cluster.remote(host).machines(context, filter).await.unwrap();
        for machine in machines {
            let id: MachineId = machine.id.parse().unwrap();
            let before = all.insert(id, (host, machine.state));
            assert_eq!(before, None, "two hosts have machine {id}");
        }
    }
    all
}

/// Records and hosts agree on the owner of each machine; names and addresses are unique.
async fn check_owners(cluster: &Cluster) {
    let had = hosts_machines(cluster).await;
    for (id, (host, state)) in &had {
        match cluster.record(*id).await {
            Some(record) => assert_eq!(record.owner, *host, "machine {id} is {state}"),
            None => assert_eq!(state, "destroyed", "machine {id} of host {host} has no record"),
        }
    }
    for app in APPS {
        let listed = cluster.list(app).await;
        for what in ["name", "private_ip", "id"] {
            let of = |machine: &Value| machine[what].as_str().unwrap().to_owned();
            let distinct: BTreeSet<String> = listed.iter().map(of).collect();
            assert_eq!(distinct.len(), listed.len(), "{what} of {app}: {listed:?}");
        }
        for machine in &listed {
            let id = machine["id"].as_str().unwrap().parse().unwrap();
            assert!(had.contains_key(&id), "machine {id} is listed, and no host has it");
            let record = cluster.record(id).await.unwrap();
            assert!(record.created, "the record of {id} knows that it was created");
        }
    }
}

/// Each host has nothing but what its machines need.
async fn check_ledgers(cluster: &Cluster) {
    let had = hosts_machines(cluster).await;
    for host in cluster.host_ids() {
        let of = |wanted: fn(&str) -> bool| -> Vec<String> {
            let own = had.iter().filter(|(_, (owner, state))| *owner == host && wanted(state));
            own.map(|(id, _)| id.to_string()).collect()
        };
        let existing = of(|state| state != "destroyed");
        let world = cluster.host(host).world();
        let clean = async || {
            let ledger = world.ledger();
            ledger.running == of(|state| state == "started")
                && ledger.remains.is_empty()
                && ledger.dirs.iter().all(|dir| existing.contains(dir))
                && ledger.slots.len() == ledger.running.len()
        };
        let what = format!("host {host} has only what its machines need: {had:?}");
        cluster.until(&what, clean).await;
    }
}

/// The edge sends requests where the hosts' tables have a route, and nowhere else.
async fn check_routes(cluster: &Cluster) {
    for host in cluster.host_ids() {
        for route in cluster.routes_of(host).await {
            let id = route.machine;
            let agrees = async || {
                let admitted = cluster.admitted(&route, host);
                match route.state {
                    RouteState::Started => admitted.is_ok(),
                    RouteState::Asleep => admitted == Err(edge::Refusal::RecentlyStopped),
                    other => panic!("machine {id} is {other:?}"),
                }
            };
            let what = format!("the edge routes to {id} on host {host}: {route:?}");
            cluster.until(&what, agrees).await;
        }
    }
    // A request is answered by an app's own machine, or refused for want of one.
    for app in APPS {
        let ids: Vec<MachineId> = cluster
            .list(app)
            .await
            .iter()
            .map(|machine| machine["id"].as_str().unwrap().parse().unwrap())
            .collect();
        let answer = cluster.request(app).await;
        match ids.is_empty() {
            true => assert_eq!(answer.status, 404, "{answer:?}"),
            false => assert!(ids.contains(&answer.machine()), "{app}: {answer:?}"),
        }
    }
}

fn walk(seed: u64) {
    Cluster::run(ClusterOptions { hosts: 3, seed, same_addresses: true }, async |cluster| {
        for app in APPS {
            cluster.app(app).await;
        }
        let (rng, machines, log) = (Rng::seeded(seed), Vec::new(), String::new());
        let mut walk = Walk { cluster, rng, seed, machines, armed: BTreeSet::new(), log };
        for _ in 0..STEPS {
            walk.step().await;
        }
        walk.heal().await;
        check_owners(walk.cluster).await;
        check_ledgers(walk.cluster).await;
        check_routes(walk.cluster).await;
    });
}

#[test]
fn random_walks_end_in_a_whole_platform() {
    (1..=5).for_each(walk);
}

#[test]
fn more_random_walks_end_in_a_whole_platform() {
    (6..=10).chain([46]).for_each(walk);
}
