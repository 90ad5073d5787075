//! The state that a new daemon finds: VMs that are hard to take over, leftovers that cannot be
//! removed, and records that cannot be read.

use crate::daemon::Settings;
use crate::lab::{APP, Lab, user};
use futures_util::StreamExt;
use host_api::{Images, LogLine, Logs, MachineFilter, Machines, Status};
use model::id::AppId;
use wire::logs::LogQuery;

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

#[test]
fn a_new_database_beside_machines_is_refused_and_nothing_is_removed() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve 80; wait m1 started; create m2 serve; wait m2 started");
    lab.script("stop m2; wait m2 stopped");
    lab.kill();
    let before = (lab.world.ledger(), lab.world.hypervisor.alive());
    let data_dir = lab.world.data_dir().to_owned();
    let aside = data_dir.join("aside");
    std::fs::create_dir(&aside).unwrap();
    let is_database = |name: &str| name.starts_with("host.db");
    for entry in data_dir.read_dir_utf8().unwrap().flatten() {
        if is_database(entry.file_name()) {
            std::fs::rename(entry.path(), aside.join(entry.file_name())).unwrap();
        }
    }
    // Also the second time, and with an empty file in its place.
    for _ in 0..2 {
        let refused = lab.refused_start();
        assert!(refused.contains("2 directories of machines and 1 VMs"), "{refused}");
        assert!(refused.contains("--discard-unrecorded"), "{refused}");
        assert!(!data_dir.join("host.db").exists(), "a restored file must find no journal");
    }
    std::fs::write(data_dir.join("host.db"), "").unwrap();
    for _ in 0..2 {
        assert!(lab.refused_start().contains("names no machine"));
    }
    assert_eq!((lab.world.ledger(), lab.world.hypervisor.alive()), before);
    for name in ["host.db", "host.db-wal", "host.db-shm"] {
        let _ = std::fs::remove_file(data_dir.join(name));
        let _ = std::fs::rename(aside.join(name), data_dir.join(name));
    }
    lab.restart();
    lab.script("show");
    assert_eq!(lab.take(), "m1 started\nm2 stopped\n");
    assert_eq!(lab.world.hypervisor.alive(), before.1, "it is the same VM");
}

#[test]
fn machines_that_a_new_database_does_not_name_are_removed_if_that_is_asked_for() {
    let mut lab = Lab::new(Settings { discard_unrecorded: true, ..Settings::default() });
    lab.script("create m1 serve 80; wait m1 started");
    lab.kill();
    for name in ["host.db", "host.db-wal", "host.db-shm"] {
        let _ = std::fs::remove_file(lab.world.data_dir().join(name));
    }
    lab.restart();
    lab.script("show; ledger");
    assert_eq!(lab.take(), "vms: -; remains: -; slots: []; dirs: -\n");
}

#[test]
fn a_guest_that_cannot_be_reached_does_not_delay_the_start_of_the_daemon() {
    // Time does not move: whatever waits for its end waits for good.
    let mut lab = Lab::new(Settings { paused: true, ..Settings::default() });
    lab.script(RUNS);
    lab.kill();
    lab.settings.faults.unknown_protocol();
    lab.restart();
    lab.script("show");
    assert_eq!(lab.take(), "m1 started\n");
}

#[test]
fn a_machine_with_an_unreadable_record_keeps_its_memory_disk_image_and_logs() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve --memory=700; wait m1 started");
    let worker = lab.worker();
    let line = LogLine {
        app: APP,
        machine: None,
        provider: "proxy".into(),
        level: "error".into(),
        message: "of the app".into(),
    };
    worker.append(line);
    let before = lab.run(worker.info(user())).unwrap().memory_reserved_mib;
    assert!(before >= 700);
    let booked = lab.world.disks.booked();
    drop(worker);
    lab.kill();
    // As a newer version might have written it.
    lab.sql("UPDATE machines SET record = json_set(record, '$.want', 'sleep')");
    lab.world.disks.unbook_all();
    lab.restart();
    let worker = lab.worker();
    assert_eq!(lab.run(worker.info(user())).unwrap().memory_reserved_mib, before);
    assert_eq!(lab.world.disks.booked(), booked);
    let filter = MachineFilter { app: Some(APP), ..MachineFilter::default() };
    let listed = lab.run(worker.machines(user(), filter.clone())).unwrap();
    assert_eq!(listed.len(), 1, "it is listed with its app: {listed:?}");
    let other = MachineFilter { app: Some(AppId(9)), ..filter };
    assert_eq!(lab.run(worker.machines(user(), other)).unwrap(), []);
    let used =
        lab.run(worker.images(user())).unwrap().iter().map(|image| image.used_by).sum::<u64>();
    assert_eq!(used, 1);
    let logs = lab.run(async {
        worker.logs(user(), APP, LogQuery::default()).await.unwrap().collect::<Vec<_>>().await
    });
    assert!(logs.iter().any(|entry| entry.message == "of the app"), "{logs:?}");
    assert_eq!(lab.run(worker.collect_images()), Ok(0));
    drop(worker);
    // Nothing of it can be read: any image may be the one that it needs.
    lab.kill();
    lab.sql("UPDATE machines SET record = '{'");
    lab.restart();
    let worker = lab.worker();
    for refused in [
        lab.run(worker.collect_images()).map(drop),
        lab.run(worker.remove_image(user(), "app".into())).map(drop),
    ] {
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("no image is removed"), "{why}");
    }
}
