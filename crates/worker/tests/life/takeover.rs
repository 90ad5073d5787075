//! The state that a new daemon finds: VMs that are hard to take over, leftovers that cannot be
//! removed, and records that cannot be read.

use crate::daemon::Settings;
use crate::lab::Lab;

const RUNS: &str = "create m1 serve 80 --policy=no; wait m1 started";

#[test]
fn a_transient_failure_never_costs_a_running_vm() {
    let mut lab = Lab::new(Settings::default());
    lab.script(RUNS);
    let before = lab.world.hypervisor.alive();
    lab.kill();
    lab.settings.faults.adopt_link(2);
    lab.settings.faults.adopt_vm(2);
    lab.restart();
    lab.script("exec m1 echo hello; show");
    assert_eq!(lab.take(), "hello Exited { code: 0, signal: 0 }\nm1 started\n");
    assert_eq!(lab.world.hypervisor.alive(), before, "it is the same VM");
}

#[test]
fn a_guest_of_an_unknown_protocol_keeps_running() {
    let mut lab = Lab::new(Settings::default());
    lab.script(RUNS);
    let before = lab.world.hypervisor.alive();
    lab.kill();
    lab.settings.faults.unknown_protocol();
    lab.restart();
    lab.script("exec m1 echo hello; show");
    let out = lab.take();
    assert!(out.contains("its guest cannot be reached, the VM keeps running"), "{out}");
    assert!(out.ends_with("m1 started\n"), "{out}");
    assert_eq!(lab.world.hypervisor.alive(), before, "it is the same VM");
    // Its end is noticed all the same, and a stop ends it.
    lab.script("stop m1; wait m1 stopped; show; ledger");
    let out = lab.take();
    assert!(out.starts_with("m1 stopped\nvms: -; remains: -"), "{out}");
}

#[test]
fn the_end_of_an_unreachable_guest_is_noticed() {
    let mut lab = Lab::new(Settings::default());
    lab.script(RUNS);
    lab.kill();
    lab.settings.faults.unknown_protocol();
    lab.restart();
    lab.script("guest m1 crash; wait m1 stopped; show");
    assert_eq!(lab.take(), "m1 stopped\n");
}

#[test]
fn no_leftover_keeps_the_daemon_from_starting() {
    let mut lab = Lab::new(Settings { paused: true, ..Settings::default() });
    lab.script("create m1 serve 80; wait m1 started; create m2 serve 81; wait m2 started");
    lab.kill();
    // The record of the first machine is gone, its VM and link are not.
    lab.sql(&format!("DELETE FROM machines WHERE id = '{}'", lab.id("m1")));
    lab.settings.faults.kill(3);
    lab.settings.faults.detach(3);
    lab.restart();
    lab.script("show");
    assert_eq!(lab.take(), "m2 started\n", "the other machine is served");
    assert_eq!(lab.world.hypervisor.alive().len(), 2);
    // It is tried again until it works.
    for _ in 0..1000 {
        lab.script("tick 60s");
        if lab.world.ledger().running.len() == 1 {
            break;
        }
    }
    let ledger = lab.world.ledger();
    assert_eq!((ledger.running.len(), ledger.slots.len()), (1, 1), "{ledger:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_kept_aside() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve 80; wait m1 started; create m2 serve 81; wait m2 started");
    let before = lab.world.hypervisor.alive();
    lab.kill();
    lab.sql(&format!("UPDATE machines SET record = '{{' WHERE id = '{}'", lab.id("m1")));
    lab.restart();
    lab.script("show");
    let out = lab.take();
    assert!(out.contains("m1 started") && out.contains("m2 started"), "both are listed: {out}");
    assert_eq!(lab.world.hypervisor.alive(), before, "neither VM was touched");
    lab.script("destroy m2 --force; wait m2 destroyed; create m3 serve 82; wait m3 started");
    let ledger = lab.world.ledger();
    assert_eq!((ledger.running.len(), ledger.slots.len()), (2, 2), "{ledger:?}");
    lab.script("start m1");
    assert!(lab.take().contains("cannot be read"));
}
