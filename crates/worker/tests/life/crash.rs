//! The daemon is killed at every step of every operation.
//!
//! A step is a call of a port (before, in and after it), a message of the guest,
//! or a commit of the database. After each crash a new daemon begins on what is
//! there. Then must hold: the machine becomes settled; what was acknowledged has
//! happened; a VM that runs and is wanted keeps running; and everything on the host
//! has an owner.

use crate::daemon::Settings;
use crate::lab::{Lab, user};
use host_api::{Machines, Status, WaitFor};
use model::id::BootId;
use std::cell::Cell;
use std::time::Duration;
use worker::Worker;

/// Nothing takes more steps; the walk ends when an operation gets through.
const MOST_STEPS: u64 = 200;

/// Where a walk crashes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Where {
    /// At the n-th point of the fakes.
    Points,
    /// At the n-th change of the database's log.
    Commits,
}

impl Where {
    /// Runs an operation to its end, or to the n-th place of a crash, which it names.
    pub(crate) fn run(
        self,
        lab: &Lab,
        n: u64,
        through: impl Future<Output = ()>,
    ) -> Option<String> {
        let points = lab.world.points.clone();
        let wal = lab.world.data_dir().join("host.db-wal");
        if matches!(self, Self::Points) {
            points.arm(n);
        }
        lab.run(async {
            let crashed = async {
                match self {
                    Self::Points => points.crashed().await,
                    Self::Commits => nth_commit(&wal, n).await,
                }
            };
            tokio::select! {
                biased;
                place = crashed => Some(place),
                () = through => None,
            }
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    name: &'static str,
    /// Done before, undisturbed.
    before: &'static str,
    /// The operation, as a script.
    script: &'static str,
    /// States it ends in if it was acknowledged.
    done: &'static [&'static str],
    /// States it may also end in if it was not.
    undone: &'static [&'static str],
    /// The state that the VM that ran before must reach.
    vm: OldVm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OldVm {
    /// There was none.
    None,
    /// It ends if the operation was acknowledged.
    Ends,
    /// It keeps running if the operation was acknowledged, or was never begun.
    Either,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create",
        before: "",
        script: "create m1 serve 8080",
        done: &["started"],
        undone: &["started", "absent"],
        vm: OldVm::None,
    },
    Operation {
        name: "create, policy no",
        before: "",
        script: "create m1 serve 8080 --policy=no",
        done: &["started"],
        undone: &["started", "absent"],
        vm: OldVm::None,
    },
    Operation {
        name: "create, not launched",
        before: "",
        script: "create m1 serve 8080 --skip-launch",
        done: &["stopped"],
        undone: &["stopped", "absent"],
        vm: OldVm::None,
    },
    Operation {
        name: "start",
        before: "create m1 serve 8080 --skip-launch",
        script: "start m1",
        done: &["started"],
        undone: &["created", "stopped", "started"],
        vm: OldVm::None,
    },
    Operation {
        name: "start, policy no",
        before: "create m1 serve 8080 --policy=no; wait m1 started; stop m1; wait m1 stopped",
        script: "start m1",
        done: &["started"],
        undone: &["stopped", "started"],
        vm: OldVm::None,
    },
    Operation {
        name: "stop",
        before: "create m1 serve 8080; wait m1 started",
        script: "stop m1",
        done: &["stopped"],
        undone: &["started", "stopped"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "stop, disk kept",
        before: "create m1 serve 8080 --persist=always; wait m1 started",
        script: "stop m1",
        done: &["stopped"],
        undone: &["started", "stopped"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "restart",
        before: "create m1 serve 8080; wait m1 started",
        script: "restart m1",
        done: &["started"],
        undone: &["started"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "restart, policy no",
        before: "create m1 serve 8080 --policy=no; wait m1 started",
        script: "restart m1",
        done: &["started"],
        undone: &["started"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "update",
        before: "create m1 serve 8080; wait m1 started",
        script: "update m1 serve 9090",
        done: &["started"],
        undone: &["started"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "update, policy no",
        before: "create m1 serve 8080 --policy=no; wait m1 started",
        script: "update m1 serve 9090 --policy=no",
        done: &["started"],
        undone: &["started"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "start while stopping, policy no",
        before: "create m1 serve 8080 --policy=no; wait m1 started; stop m1",
        script: "start m1",
        done: &["started"],
        undone: &["stopped", "started"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "destroy",
        before: "create m1 serve 8080; wait m1 started",
        script: "destroy m1 --force",
        done: &["destroyed"],
        undone: &["started", "destroyed"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "stop with auto_destroy",
        before: "create m1 serve 8080 --rm; wait m1 started",
        script: "stop m1",
        done: &["destroyed"],
        undone: &["started", "destroyed"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "suspend",
        before: RUNS,
        script: "suspend m1",
        done: &["suspended"],
        undone: &["started", "suspended"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "resume",
        before: ASLEEP,
        script: "start m1",
        done: &["started"],
        undone: &["suspended", "started"],
        vm: OldVm::Either,
    },
    Operation {
        name: "start while suspending",
        before: "create m1 serve 8080 --policy=no; wait m1 started; mark m1; suspend m1",
        script: "start m1",
        done: &["started"],
        undone: &["suspended", "started"],
        vm: OldVm::Either,
    },
    Operation {
        name: "stop while suspending",
        before: "create m1 serve 8080 --policy=no; wait m1 started; suspend m1",
        script: "stop m1",
        done: &["stopped"],
        undone: &["suspended", "stopped"],
        vm: OldVm::Ends,
    },
    Operation {
        name: "stop of a suspended one",
        before: ASLEEP,
        script: "stop m1",
        done: &["stopped"],
        undone: &["suspended", "stopped"],
        vm: OldVm::None,
    },
    Operation {
        name: "update of a suspended one",
        before: ASLEEP,
        script: "update m1 serve 9090 --policy=no",
        done: &["started"],
        undone: &["suspended", "started"],
        vm: OldVm::None,
    },
    Operation {
        name: "destroy of a suspended one",
        before: ASLEEP,
        script: "destroy m1",
        done: &["destroyed"],
        undone: &["suspended", "destroyed"],
        vm: OldVm::None,
    },
    Operation {
        name: "resume from a damaged snapshot",
        before: BROKEN,
        script: "start m1",
        done: &["started"],
        undone: &["suspended", "started"],
        vm: OldVm::Either,
    },
];

const RUNS: &str = "create m1 serve 8080 --policy=no; wait m1 started; mark m1";
const ASLEEP: &str =
    "create m1 serve 8080 --policy=no; wait m1 started; mark m1; suspend m1; wait m1 suspended";
const BROKEN: &str = "create m1 serve 8080 --policy=no; wait m1 started; mark m1; suspend m1
                      wait m1 suspended; break m1 ram";

#[test]
fn killed_at_every_step_of_every_operation() {
    for operation in OPERATIONS {
        let steps = walk(operation, Where::Points, None);
        // A machine that is suspended or not launched has little outside that could be in the way.
        let quiet = ["suspended one", "not launched"];
        let least = if quiet.iter().any(|name| operation.name.contains(name)) { 0 } else { 3 };
        assert!(steps > least, "{} has steps", operation.name);
    }
}

#[test]
fn killed_at_every_commit_of_every_operation() {
    for operation in OPERATIONS {
        let steps = walk(operation, Where::Commits, None);
        assert!(steps > 1, "{} has commits", operation.name);
    }
}

#[test]
fn killed_again_during_the_recovery() {
    for operation in OPERATIONS {
        for again in [1, 4, 9] {
            walk(operation, Where::Points, Some(again));
        }
    }
}

/// Crashes at step 1, 2, 3, … until the operation gets through; returns how many
/// steps it has.
fn walk(operation: &Operation, at: Where, again: Option<u64>) -> u64 {
    for step in 1..MOST_STEPS {
        let mut lab = Lab::new(Settings { seed: step, ..Settings::default() });
        lab.script(operation.before);
        let before = boot_of(&lab);
        let Some((acknowledged, place)) = crash(&mut lab, operation, at, step) else {
            let vms = Vms { before, at_crash: None };
            check(&mut lab, operation, vms, true, "nowhere");
            return step;
        };
        // Shown if what follows fails or hangs.
        eprintln!("{} killed at {place}, again at {again:?}", operation.name);
        let vms = Vms { before, at_crash: boot_of(&lab) };
        if let Some(again) = again {
            crash_in_recovery(&mut lab, again);
        }
        lab.restart();
        check(&mut lab, operation, vms, acknowledged, &place);
    }
    panic!("{} does not end", operation.name);
}

/// Runs the operation until it has settled or a crash. Returns whether it had
/// been acknowledged and where the crash was, if there was one.
fn crash(lab: &mut Lab, operation: &Operation, at: Where, step: u64) -> Option<(bool, String)> {
    let acknowledged = Cell::new(false);
    let points = lab.world.points.clone();
    let worker = lab.worker();
    let request = lab.request(operation.script);
    let id = lab.id("m1");
    let place = at.run(lab, step, async {
        request.await.expect("it is allowed");
        acknowledged.set(true);
        wait_until_settled(&worker).await;
        if operation.vm == OldVm::Either {
            // Started, but its VM may not be resumed yet.
            let _ = worker.processes(user(), id).await;
        }
    });
    drop(worker);
    match place {
        Some(place) => {
            lab.kill();
            Some((acknowledged.get(), format!("step {step} ({place})")))
        }
        None => {
            points.disarm();
            None
        }
    }
}

/// Kills a daemon at the n-th point of its recovery, if it has so many.
fn crash_in_recovery(lab: &mut Lab, n: u64) {
    lab.world.points.arm(n);
    let daemon = crate::daemon::Daemon::new(&lab.world, &lab.settings);
    daemon.run(async {
        let recovered = async {
            let worker = crate::daemon::Daemon::begin(&lab.world, &lab.settings).await;
            wait_until_settled(&worker).await;
        };
        tokio::select! {
            biased;
            _ = lab.world.points.crashed() => {}
            () = recovered => {}
        }
    });
    daemon.kill();
}

/// Ends when the log of the database has changed so often. Looked at between
/// any two steps of the daemon.
async fn nth_commit(wal: &camino::Utf8Path, n: u64) -> String {
    let length = || std::fs::metadata(wal).map_or(0, |meta| meta.len());
    let (mut last, mut seen) = (length(), 0);
    loop {
        tokio::task::yield_now().await;
        let now = length();
        if now != last {
            (last, seen) = (now, seen + 1);
        }
        if seen == n {
            return "commit".into();
        }
    }
}

/// Waits until no machine is on its way anywhere.
async fn wait_until_settled(worker: &Worker) {
    let machines = worker.machines(user(), host_api::MachineFilter::default()).await;
    for machine in machines.unwrap() {
        let states = vec!["settled".to_owned()];
        let timeout_ms = Duration::from_secs(3600).as_millis() as u64;
        let wanted = WaitFor { states, timeout_ms, ..WaitFor::default() };
        // A machine that failed or is gone has settled too.
        let _ = worker.wait(user(), machine.id.parse().unwrap(), wanted).await;
    }
}

fn boot_of(lab: &Lab) -> Option<BootId> {
    let alive = lab.world.hypervisor.alive();
    assert!(alive.len() <= 1, "one machine has one VM: {alive:?}");
    alive.first().map(|(_, boot)| *boot)
}

/// Boots of the machine.
#[derive(Clone, Copy, Debug)]
struct Vms {
    before: Option<BootId>,
    at_crash: Option<BootId>,
}

fn check(lab: &mut Lab, operation: &Operation, vms: Vms, acknowledged: bool, at: &str) {
    let worker = lab.worker();
    let id = lab.id("m1");
    lab.run(wait_until_settled(&worker));
    let machine = lab.run(async { worker.machine(user(), id).await }).ok();
    let state = machine.as_ref().map_or("absent".into(), |machine| machine.state.clone());
    let context = format!("{} killed at {at}, acknowledged: {acknowledged}", operation.name);
    let allowed = if acknowledged { operation.done } else { operation.undone };
    assert!(allowed.contains(&state.as_str()), "{context}: it is {state}\n{machine:#?}");
    let now = boot_of(lab);
    if acknowledged && operation.vm == OldVm::Ends {
        assert_ne!(now, vms.before, "{context}: the old VM still runs");
    }
    if operation.vm == OldVm::None && vms.at_crash.is_some() {
        assert_eq!(now, vms.at_crash, "{context}: the VM keeps running");
    }
    if operation.name.starts_with("update") && acknowledged {
        let init = machine.and_then(|m| m.config).and_then(|config| config.init.clone()).unwrap();
        assert_eq!(init.exec.unwrap(), ["serve", "9090"], "{context}");
    }
    if state == "suspended" {
        lab.script("start m1; wait m1 started; suspend m1; wait m1 suspended");
        let _ = lab.take();
    }
    let marked = operation.before.contains("mark m1");
    let fresh = ["stop", "update", "destroy"].iter().any(|word| operation.name.starts_with(word));
    if marked && (!fresh || state == "suspended") {
        lab.script("disk m1");
        assert_eq!(lab.take(), "m1's disk is kept\n", "{context}");
    }
    lab.settle_snapshots();
    let ledger = lab.world.ledger();
    let runs = state == "started";
    let kept = ledger.snapshots.len() == usize::from(state == "suspended");
    assert!(kept || runs, "{context}: {ledger:?}");
    assert_eq!(ledger.running.len(), usize::from(runs), "{context}: {ledger:?}");
    assert_eq!(ledger.slots.len(), usize::from(runs), "{context}: {ledger:?}");
    assert_eq!(ledger.remains, Vec::<String>::new(), "{context}");
    let exists = !["destroyed", "absent"].contains(&state.as_str());
    assert!(exists || ledger.dirs.is_empty(), "{context}: {ledger:?}");
    let listed = lab.run(async { worker.info(user()).await }).unwrap().memory_reserved_mib;
    assert_eq!(listed, if runs { 256 } else { 0 }, "{context}: memory");
    // It can still be worked with.
    if exists {
        let force = lab.run(worker.destroy(user(), id, true));
        force.unwrap_or_else(|err| panic!("{context}: {err}"));
        lab.wait("m1", "destroyed", 3_600_000).unwrap();
    }
    drop(worker);
    assert_eq!(lab.world.ledger(), testkit::Ledger::default(), "{context}");
    let complaints = lab.take();
    assert_eq!(complaints, "", "{context}");
}
