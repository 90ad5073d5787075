//! Carries out a sequence.

use super::agree::agree;
use super::model::{Expected, Known, state};
use super::steps::{Call, Nonce, Step};
use futures_util::future::join_all;
use guest_protocol::Exit;
use hyper::Method;
use model::life::State;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::cluster::{Cluster, Followed};
use testkit::guest::GuestAction;

/// Seconds that every lease of a sequence is granted for.
const TTL: u64 = 3600;

/// A sequence that is being carried out.
pub(super) struct Run<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) machines: Vec<Known>,
    pub(super) watch: Followed,
}

/// Carries out all steps and compares after each. `seen` counts them.
pub(super) async fn all(cluster: &mut Cluster, steps: Vec<Step>, seen: Option<Arc<AtomicUsize>>) {
    cluster.app("web").await;
    let watch = cluster.follow("/v1/apps/web/watch").await;
    let mut run = Run { cluster, machines: Vec::new(), watch };
    for step in steps {
        if let Some(seen) = &seen {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        run.step(step).await;
        agree(&mut run).await;
    }
}

impl Run<'_> {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Create { skip_launch, leased } => self.create(skip_launch, leased).await,
            Step::Call { machine, call, nonce } => self.call(machine, call, nonce).await,
            Step::Race { machine, calls } => self.race(machine, &calls).await,
            Step::Exit { machine, code } => self.exit(machine, code).await,
            Step::PassAnHour => {
                self.cluster.jump(Duration::from_secs(TTL + 1)).await;
                self.machines.iter_mut().for_each(|known| known.leased = false);
            }
            Step::KillWorkers => {
                for host in self.cluster.host_ids() {
                    self.cluster.kill(host);
                    self.cluster.restart(host);
                }
                self.cluster.settle().await;
            }
        }
    }

    async fn create(&mut self, skip_launch: bool, leased: bool) {
        let mut body = json!({
            "skip_launch": skip_launch,
            "config": { "image": "app", "restart": { "policy": "no" } },
        });
        if leased {
            body["lease_ttl"] = json!(TTL);
        }
        let (status, machine) = self.cluster.call(Method::POST, MACHINES, body).await;
        assert_eq!(status, 200, "{machine}");
        self.machines.push(Known {
            id: text(&machine["id"]),
            state: if skip_launch { State::Stopped } else { State::Started },
            version: text(&machine["instance_id"]),
            never_started: skip_launch,
            leased,
            nonce: machine["nonce"].as_str().unwrap_or("0123456789abcdef").to_owned(),
        });
        assert_eq!(machine["nonce"].is_string(), leased, "{machine}");
    }

    async fn call(&mut self, machine: usize, call: Call, nonce: Nonce) {
        let known = &mut self.machines[machine];
        let expected = known.after(call, nonce);
        let (status, answer) = send(self.cluster, known, call, nonce).await;
        match expected {
            Expected::Refused(allowed) => {
                assert!(allowed.contains(&status), "{known:?}: {status} {answer}");
            }
            Expected::Done(next) => {
                assert!((200..300).contains(&status), "{known:?}: {status} {answer}");
                known.state = next;
                known.note(call, &answer);
            }
        }
    }

    /// Whatever is carried out, in whichever order: a lease has one holder, and only its holder
    /// changes the machine.
    async fn race(&mut self, machine: usize, calls: &[(Call, Nonce)]) {
        let known = &self.machines[machine];
        let all = calls.iter().map(|(call, nonce)| send(self.cluster, known, *call, *nonce));
        let answers: Vec<(u16, Value)> = join_all(all).await;
        let (mut granted, mut released) = (Vec::new(), 0);
        for ((call, nonce), (status, answer)) in calls.iter().zip(&answers) {
            let done = (200..300).contains(status);
            assert!(done || [400, 404, 408, 409].contains(status), "{call:?}: {status} {answer}");
            match call {
                Call::Lease if done => granted.push(text(&answer["nonce"])),
                Call::Release if done && *nonce == Nonce::Newest => released += 1,
                _ => {}
            }
        }
        let may_be_released = released > 0 || !known.leased;
        for ((call, nonce), (status, answer)) in calls.iter().zip(&answers) {
            let broken = known.guarded(*call, *nonce) && *status < 300 && !may_be_released;
            assert!(!broken, "{call:?} without the nonce of the lease: {answer}");
        }
        granted.sort();
        granted.dedup();
        // Each further holder needs a release before.
        let holders = granted.len() + usize::from(known.leased && !granted.contains(&known.nonce));
        assert!(holders <= 1 + released, "{holders} holders: {answers:?}");
        self.read_back(machine, granted).await;
    }

    /// After a race, the model takes over the state that the machine has.
    async fn read_back(&mut self, machine: usize, granted: Vec<String>) {
        let cluster = &*self.cluster;
        let known = &mut self.machines[machine];
        let read = super::agree::rested(cluster, &known.id).await;
        known.state = state(read["state"].as_str().unwrap());
        known.version = text(&read["instance_id"]);
        known.never_started &= known.state == State::Stopped;
        let (status, lease) = cluster.get(&at(&known.id, "/lease")).await;
        known.leased = status == 200;
        if known.leased {
            let nonce = text(&lease["nonce"]);
            assert!(granted.contains(&nonce) || nonce == known.nonce, "{lease}: {granted:?}");
            known.nonce = nonce;
        } else {
            assert_eq!(status, 404, "{lease}");
            known.nonce = granted.last().cloned().unwrap_or_else(|| known.nonce.clone());
        }
    }

    async fn exit(&mut self, machine: usize, code: u8) {
        let known = &mut self.machines[machine];
        if known.state != State::Started {
            return;
        }
        let id = known.id.parse().unwrap();
        let owner = self.cluster.record(id).await.unwrap().owner;
        let exit = Exit { code: code.into(), ..Exit::default() };
        let hypervisor = &self.cluster.host(owner).world().hypervisor;
        assert!(hypervisor.guest(id, GuestAction::Exit(exit)), "{known:?} has a VM");
        known.state = State::Stopped;
    }
}

impl Known {
    /// Notes what the answer shows.
    fn note(&mut self, call: Call, answer: &Value) {
        match call {
            Call::Lease => {
                let nonce = text(&answer["nonce"]);
                assert!(!self.leased || self.nonce == nonce, "a renewal keeps the nonce: {answer}");
                (self.leased, self.nonce) = (true, nonce);
            }
            Call::Release => self.leased = false,
            Call::Update { .. } => {
                let version = text(&answer["instance_id"]);
                assert_ne!(version, self.version, "an update makes a version");
                self.version = version;
            }
            Call::Start | Call::Restart => self.never_started = false,
            _ => {}
        }
    }
}

const MACHINES: &str = "/v1/apps/web/machines";

/// The path of a machine.
pub(super) fn at(id: &str, rest: &str) -> String {
    format!("{MACHINES}/{id}{rest}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

async fn send(cluster: &Cluster, known: &Known, call: Call, nonce: Nonce) -> (u16, Value) {
    let config = json!({ "image": "app", "restart": { "policy": "no" } });
    let (method, rest, body) = match call {
        Call::Start => (Method::POST, "/start?", Value::Null),
        Call::Stop => (Method::POST, "/stop?", Value::Null),
        Call::Suspend => (Method::POST, "/suspend?", Value::Null),
        Call::Restart => (Method::POST, "/restart?", Value::Null),
        Call::Update { skip_launch } => {
            (Method::POST, "?", json!({ "config": config, "skip_launch": skip_launch }))
        }
        Call::Destroy { force: true } => (Method::DELETE, "?force=true", Value::Null),
        Call::Destroy { force: false } => (Method::DELETE, "?", Value::Null),
        Call::Cordon => (Method::POST, "/cordon?", Value::Null),
        Call::Uncordon => (Method::POST, "/uncordon?", Value::Null),
        Call::Lease => (Method::POST, "/lease?", json!({ "ttl": TTL })),
        Call::Release => (Method::DELETE, "/lease?", Value::Null),
        Call::Label => (Method::POST, "/metadata/role?", json!({ "value": "primary" })),
    };
    let nonce = match nonce {
        Nonce::Absent => String::new(),
        Nonce::Newest => format!("&nonce={}", known.nonce),
        Nonce::Wrong => "&nonce=fedcba9876543210".to_owned(),
    };
    cluster.call(method, &at(&known.id, &format!("{rest}{nonce}")), body).await
}
