//! The waits of calls, and the actions of a machine that is down.

use crate::daemon::Settings;
use crate::faulty::Faults;
use crate::lab::{Lab, check, check_with, edge, user};
use expect_test::expect;
use host_api::{
    Connections, CreateMachine, Deadline, Exec, ExecStart, HostError, Images, Load, Machines,
    Status, Stop, Upstream,
};
use model::id::{Epoch, HostId};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

#[test]
fn a_destroy_right_after_a_stop_waits_for_it() {
    check(
        "create m1 serve; wait m1 started; stop m1; destroy m1; wait m1 destroyed; ledger
         create m2 serve; wait m2 started; destroy m2",
        expect![[r#"
            vms: -; remains: -; slots: []; dirs: -
            destroy m2: a machine that is started cannot be destroyed without force
        "#]],
    );
}

#[test]
fn an_exec_right_after_a_create_waits_for_the_start() {
    check(
        "create m1 serve; exec m1 true; stop m1; wait m1 stopped; exec m1 true",
        expect![[r#"
            Failed(NotFound("true: not found"))
            exec m1 true: machine is stopped: it has to be started for this
        "#]],
    );
}

#[test]
fn a_machine_that_is_not_launched_is_prepared_and_stopped() {
    check(
        "hold-pulls; create m1 serve --skip-launch; show; release-pulls; wait m1 stopped; show
         events m1; wait m1 settled; wait m1 created; start m1; wait m1 started; show
         stop m1; wait m1 stopped; wait m1 created 1; start m1; wait m1 started
         hold-pulls; create m2 serve --skip-launch; start m2; release-pulls; wait m2 started; show",
        expect![[r#"
            m1 created
            m1 stopped
            stop by flyd -> stopped (prepared, not started)
            launch by user -> created
            m1 started
            wait m1 created 1: machine did not reach created within 0 s; it is stopped
            m1 started
            m2 started
        "#]],
    );
}

#[test]
fn an_image_that_cannot_be_prepared_is_reported_and_the_start_fails() {
    check(
        "create m1 serve --skip-launch --image=none; wait m1 stopped; routes; start m1
         wait m1 failed; destroy m1; wait m1 destroyed",
        expect![[r#"
            m1 asleep [] (it could not be prepared: image "none" was not found: the registry has none)
        "#]],
    );
}

#[test]
fn a_standby_is_prepared_and_not_started_by_requests() {
    check(
        "create m1 serve --standby-for=m0; wait m1 stopped; start m1; wake m1; restart m1
         update m1 serve --standby-for=m0; show; update m1 serve; wait m1 started; show",
        expect![[r#"
            start m1: machine is a standby and is not started by requests; clear `standbys` in its config first
            wake m1: NotStartable("machine is a standby and is not started by requests; clear `standbys` in its config first")
            restart m1: machine is a standby and is not started by requests; clear `standbys` in its config first
            m1 stopped v2
            m1 started v3
        "#]],
    );
}

#[test]
fn a_machine_that_destroys_itself_is_stopped_first() {
    check(
        "create m1 serve --rm; wait m1 started; guest m1 exit 0; wait m1 stopped
         wait m1 destroyed; wait m1 stopped; events m1 4
         create m2 serve --rm --image=none; wait m2 destroyed; events m2 3; ledger",
        expect![[r#"
            destroy by flyd -> destroyed
            destroy by flyd -> destroying
            exit by flyd -> stopped code=0
            start by flyd -> started
            destroy by flyd -> destroyed
            destroy by flyd -> destroying
            launch_failed by flyd -> failed (image "none" was not found: the registry has none)
            vms: -; remains: -; slots: []; dirs: -
        "#]],
    );
}

#[test]
fn a_machine_that_is_started_again_keeps_its_memory() {
    let settings = Settings { memory_mib: 1000, ..Settings::default() };
    check_with(
        settings,
        "create m1 serve --memory=600; wait m1 started; stop m1; start m1
         create m2 serve --memory=600; wait m1 started; host",
        expect![[r#"
            create m2 serve --memory=600: could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)
            memory 600/1000 {"started": 1}
        "#]],
    );
}

#[test]
fn memory_is_held_at_every_moment_between_a_stop_and_the_start_that_follows() {
    let mut lab = Lab::new(Settings { memory_mib: 1000, ..Settings::default() });
    lab.script("create m1 serve --memory=600; wait m1 started; stop m1; start m1");
    let (worker, id) = (lab.worker(), lab.id("m1"));
    lab.run(async {
        loop {
            let machine = worker.machine(user(), id).await.unwrap();
            let reserved = worker.info(user()).await.unwrap().memory_reserved_mib;
            assert_eq!(reserved, 600, "another machine could get it: m1 is {}", machine.state);
            let ends = machine.events.iter().filter(|event| event.kind == "exit").count();
            if ends == 1 && machine.state == "started" {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    drop(worker);
    lab.kill();
}

#[test]
fn what_a_vm_uses_beside_its_guest_is_booked_too() {
    let mut lab = Lab::new(Settings { memory_mib: 1000, ..Settings::default() });
    lab.world.hypervisor.set_overhead(100);
    lab.script(
        "create m1 serve --memory=500; wait m1 started; host
         create m2 serve --memory=350; create m3 serve --memory=300; wait m3 started; host
         stop m3; wait m3 stopped; host; start m3; wait m3 started; host
         update m3 serve --memory=301; update m3 serve --memory=299; wait m3 started; host",
    );
    lab.kill();
    // A new daemon books what it takes over.
    lab.restart();
    lab.script("host");
    expect![[r#"
        memory 600/1000 {"started": 1}
        create m2 serve --memory=350: could not reserve resource for machine: insufficient memory available to fulfill request (450 MiB asked, 400 of 1000 MiB free on this host)
        memory 1000/1000 {"started": 2}
        memory 600/1000 {"started": 1, "stopped": 1}
        memory 1000/1000 {"started": 2}
        update m3 serve --memory=301: could not reserve resource for machine: insufficient memory available to fulfill request (401 MiB asked, 400 of 1000 MiB free on this host)
        memory 999/1000 {"started": 2}
        memory 999/1000 {"started": 2}
    "#]]
    .assert_eq(&lab.take());
    lab.kill();
}

#[test]
fn a_step_of_a_launch_that_hangs_is_given_up_and_tried_again() {
    for step in [Faults::hang_attach, Faults::hang_boot] {
        let clock = rt::Clock::manual(1_700_000_000_000_000_000);
        let settings = Settings { paused: true, clock, ..Settings::default() };
        let faults = settings.faults.clone();
        step(&faults);
        let mut lab = Lab::new(settings);
        lab.script("create m1 serve");
        lab.run(faults.hung());
        lab.script("tick 119s; show; tick 1s; wait m1 started; show");
        assert_eq!(lab.take(), "m1 starting\nm1 started\n");
        lab.kill();
    }
}

#[test]
fn disk_space_is_booked_at_create_and_start_until_the_machine_is_destroyed() {
    let mut lab = Lab::new(Settings::default());
    lab.world.disks.limit_bookings(12 << 30);
    lab.script(
        "create m1 serve; wait m1 started; create m2 serve
         stop m1; wait m1 stopped; update m1 serve --persist=restart --skip-launch",
    );
    let refused = lab.take();
    assert!(refused.contains("8589934592 of 12884901888 bytes are booked"), "{refused}");
    assert_eq!(lab.world.disks.booked().len(), 0, "the disk of the old instance");
    lab.script("start m1; wait m1 started; destroy m1 --force; wait m1 destroyed");
    assert_eq!(lab.take(), "");
    assert_eq!(lab.world.disks.booked().len(), 0);
}

#[test]
fn the_machine_whose_disk_grows_most_is_stopped_when_the_disk_is_nearly_full() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started; create m2 serve; wait m2 started");
    let dir = lab.world.data_dir().join("machines").join(lab.id("m1").to_string());
    let disk = dir.join("scratch.ext4");
    assert!(disk.exists());
    let low = worker::ports::LowSpace { free: 5 << 20, disk: disk.clone(), grown: 700 << 20 };
    lab.world.disks.report_low_space(low);
    lab.script("wait m1 stopped; show; events m1 2");
    // Its writable layer is not kept, so the space is free again.
    lab.run(async {
        while disk.exists() {
            tokio::task::yield_now().await;
        }
    });
    expect![[r#"
        m1 stopped
        m2 started
        exit by flyd -> stopped code=0 requested
        stop by flyd -> stopping (the host's disk is nearly full (5 MiB free) and this machine's disk has grown most (700 MiB))
    "#]]
    .assert_eq(&lab.take());
}

#[test]
fn a_machine_of_a_newer_epoch_is_removed_and_may_come_back() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started");
    let (worker, id) = (lab.worker(), lab.id("m1"));
    let newer = user().at(Epoch(3));
    let answer = lab.run(worker.stop(newer, id, Stop::default()));
    let gone = HostError::NotMine { host: HostId(1), epoch: Some(Epoch(3)) };
    assert_eq!(answer, Err(gone.clone()));
    drop(worker);
    // Also a daemon that is killed meanwhile removes what is left of it.
    lab.kill();
    lab.restart();
    let worker = lab.worker();
    assert_eq!(lab.run(worker.machine(user(), id)), Err(gone));
    assert_eq!(lab.machines(), []);
    lab.run(async {
        while lab.world.ledger() != testkit::Ledger::default() {
            tokio::task::yield_now().await;
        }
    });
    let create = lab.creation("m1", &["serve"]);
    let again = |epoch| CreateMachine { id, epoch, ..create.clone() };
    let stale = lab.run(worker.create(user(), again(Epoch(2))));
    assert_eq!(stale, Err(HostError::StaleEpoch { sent: Epoch(2), known: Epoch(3) }));
    lab.run(async {
        // Busy until the end of the removal is recorded.
        while let Err(err) = worker.create(user(), again(Epoch(4))).await {
            assert!(matches!(err, HostError::Busy(_)), "{err:?}");
            tokio::task::yield_now().await;
        }
    });
    drop(worker);
    lab.script("wait m1 started; show");
    assert_eq!(lab.take(), "m1 started\n");
}

#[test]
fn a_call_with_a_key_is_carried_out_once_also_over_a_crash() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started");
    let (worker, id) = (lab.worker(), lab.id("m1"));
    let keyed = || user().keyed("restart-1");
    lab.run(worker.restart(keyed(), id, Stop::default(), false)).unwrap();
    drop(worker);
    lab.script("wait m1 restarting|starting; wait m1 started");
    lab.kill();
    lab.restart();
    let worker = lab.worker();
    lab.run(worker.restart(keyed(), id, Stop::default(), false)).unwrap();
    drop(worker);
    lab.script("show; exits m1 1");
    assert_eq!(lab.take(), "m1 started\n");
    let exits = |lab: &Lab| lab.machine(id).events.iter().filter(|e| e.kind == "exit").count();
    assert_eq!(exits(&lab), 1);
}

#[test]
fn a_machine_with_a_session_is_not_idle_wherever_the_session_comes_from() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve 80; wait m1 started; listens m1 80");
    let boot = lab.subscribe().snapshot.routes[0].boot.unwrap();
    let (worker, machine) = (lab.worker(), lab.id("m1"));
    let upstream = Upstream { machine, boot, port: 80 };
    let forwarded = lab.run(worker.connect(user(), upstream)).unwrap();
    // A connection that an edge keeps for later requests is no session.
    let pooled = lab.run(worker.connect(edge(), upstream)).unwrap();
    assert_eq!(worker.sessions(machine), 1);
    lab.script("idle m1; sleep m1; show");
    drop(forwarded);
    assert_eq!(worker.sessions(machine), 0);
    drop(worker);
    lab.script("idle m1; wait m1 stopped; show");
    drop(pooled);
    expect![[r#"
        idle m1: NotStartable("machine is not idle: 1 execs or forwarded connections are open")
        sleep m1: NotStartable("machine is not idle: 1 execs or forwarded connections are open")
        m1 started
        m1 stopped
    "#]]
    .assert_eq(&lab.take());
}

#[test]
fn an_exec_of_an_older_owner_is_refused() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started");
    let (worker, id) = (lab.worker(), lab.id("m1"));
    let start = ExecStart { argv: vec!["true".into()], ..ExecStart::default() };
    let refused = lab.run(worker.exec(user().at(Epoch(0)), id, start)).map(drop);
    assert_eq!(refused, Err(HostError::StaleEpoch { sent: Epoch(0), known: Epoch(1) }));
}

#[test]
fn a_create_whose_time_is_over_leaves_nothing() {
    let mut lab = Lab::new(Settings::default());
    let (worker, create) = (lab.worker(), lab.creation("m1", &["serve"]));
    let mut late = user();
    late.deadline = Deadline::within(Duration::ZERO);
    let refused = lab.run(worker.create(late, create.clone())).map(drop);
    assert!(matches!(refused, Err(HostError::DeadlineExceeded(_))), "{refused:?}");
    // One create of an id runs at a time, so this one finds what the first has left.
    let refused =
        lab.run(worker.create(user(), CreateMachine { name: "other".parse().unwrap(), ..create }));
    assert_eq!(refused.unwrap().name, "other");
    drop(worker);
    assert_eq!(lab.machines().len(), 1);
    assert_eq!(lab.world.disks.booked().len(), 1);
}

#[test]
fn a_machine_whose_phase_is_not_known_keeps_running_after_a_takeover() {
    let clock = rt::Clock::manual(1_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    lab.script("create m1 serve; wait m1 started; guest m1 hide-phase; tick 1s");
    lab.kill();
    lab.restart();
    // Longer than a boot may take.
    lab.script("wait m1 started; tick 60s; tick 60s; wait m1 started; show");
    assert_eq!(lab.take(), "m1 started\n");
    let machine = lab.machine(lab.id("m1"));
    assert!(machine.events.iter().all(|event| event.kind != "exit"), "{:?}", machine.events);
}

/// A client that sends a little and then nothing.
struct Slow(bool);

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        buffer.put_slice(&[7; 1000]);
        Poll::Ready(Ok(()))
    }
}

#[test]
fn uploads_are_few_and_leave_nothing_when_their_client_goes() {
    let lab = Lab::new(Settings::default());
    let worker = lab.worker();
    let dir = lab.world.data_dir().join("uploads");
    let files = || dir.read_dir_utf8().map_or(0, |files| files.count());
    let until = |count: usize| {
        lab.run(async {
            while files() != count {
                tokio::task::yield_now().await;
            }
        });
    };
    let begin = || lab.run(worker.import_image(user(), Default::default(), Box::new(Slow(false))));
    let mut uploads: Vec<_> = (0..4).map(|_| begin().unwrap()).collect();
    until(4);
    assert!(matches!(begin().map(drop), Err(HostError::Busy(_))));
    uploads.pop();
    until(3);
    uploads.push(begin().unwrap());
    until(4);
    drop(uploads);
    until(0);
}

#[test]
fn a_change_of_labels_that_changes_nothing_is_not_recorded() {
    let clock = rt::Clock::manual(1_795_000_000_000_000_000);
    let mut lab = Lab::new(Settings { clock: clock.clone(), ..Settings::default() });
    lab.script("create m1 serve; wait m1 started; label m1 role=primary");
    let id = lab.id("m1");
    let before = lab.machine(id).updated_at;
    clock.advance(Duration::from_secs(1));
    lab.script("label m1 role=primary; label m1 absent");
    assert_eq!(lab.machine(id).updated_at, before);
    lab.script("label m1 role=replica; show");
    assert_ne!(lab.machine(id).updated_at, before);
    assert_eq!(lab.take(), "m1 started role=replica\n");
}

#[test]
fn a_call_with_a_key_that_changes_nothing_is_not_carried_out_later() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started; stop m1; wait m1 stopped");
    let (worker, id) = (lab.worker(), lab.id("m1"));
    let keyed = |key: &str| user().keyed(key);
    lab.run(worker.stop(keyed("stop-1"), id, Stop::default())).unwrap();
    lab.run(worker.cordon(keyed("cordon-1"), id, false)).unwrap();
    lab.script("start m1; wait m1 started; cordon m1");
    lab.run(worker.stop(keyed("stop-1"), id, Stop::default())).unwrap();
    lab.run(worker.cordon(keyed("cordon-1"), id, false)).unwrap();
    // A start that changes nothing is the same.
    lab.run(worker.start(keyed("start-1"), id)).unwrap();
    lab.script("stop m1; wait m1 stopped");
    lab.run(worker.start(keyed("start-1"), id)).unwrap();
    drop(worker);
    lab.script("show");
    assert_eq!(lab.take(), "m1 stopped cordoned\n");
}

#[test]
fn a_create_with_a_key_makes_no_second_machine_once_the_first_is_forgotten() {
    let mut lab = Lab::new(Settings::default());
    let create = lab.creation("m1", &["serve"]);
    let keyed = || user().keyed("create-1");
    let worker = lab.worker();
    lab.run(worker.create(keyed(), create.clone())).unwrap();
    lab.run(worker.create(keyed(), create.clone())).unwrap();
    drop(worker);
    lab.script("wait m1 started; destroy m1 --force; wait m1 destroyed");
    lab.kill();
    lab.sql("DELETE FROM machines");
    lab.restart();
    let worker = lab.worker();
    let again = lab.run(worker.create(keyed(), create.clone())).map(drop);
    assert!(matches!(&again, Err(HostError::Conflict(why)) if why.contains("before")), "{again:?}");
    assert_eq!(lab.world.disks.booked().len(), 0);
    let other = user().keyed("create-2");
    lab.run(worker.create(other, create)).unwrap();
}

#[test]
fn a_change_that_cannot_be_recorded_keeps_the_disk_that_the_machine_had() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started; stop m1; wait m1 stopped");
    let before = lab.world.disks.booked();
    assert_eq!(before.len(), 1);
    lab.sql(
        "CREATE TRIGGER full BEFORE UPDATE ON machines
         BEGIN SELECT RAISE(ABORT, 'no space'); END",
    );
    lab.script("update m1 serve --persist=restart");
    assert!(lab.take().contains("no space"));
    assert_eq!(lab.world.disks.booked(), before);
    lab.sql("DROP TRIGGER full");
    lab.script("update m1 serve --persist=restart; wait m1 started");
    let after = lab.world.disks.booked();
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(after.keys().all(|path| !before.contains_key(path)), "{after:?}");
}

#[test]
fn an_update_does_not_start_a_machine_that_was_never_started() {
    check(
        "create m1 serve --skip-launch; wait m1 stopped; update m1 serve 8081; wait m1 settled; show
         kill; daemon; update m1 serve 8082; wait m1 stopped; show; start m1; wait m1 started
         stop m1; wait m1 stopped; update m1 serve 8083; wait m1 started; show",
        expect![[r#"
            m1 stopped v2
            m1 stopped v3
            m1 started v4
        "#]],
    );
}

#[test]
fn a_signal_is_sent_once_per_key_and_a_refusal_notes_none() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve --policy=no --skip-launch; wait m1 stopped");
    let (worker, id) = (lab.worker(), lab.id("m1"));
    let signal = |lab: &Lab| lab.run(async { worker.signal(user().keyed("k"), id, 15).await });
    assert!(matches!(signal(&lab), Err(HostError::Conflict(_))));
    lab.script("start m1; wait m1 started");
    signal(&lab).unwrap();
    lab.script("wait m1 stopped; start m1; wait m1 started");
    signal(&lab).unwrap();
    lab.script("exec m1 true");
    assert_eq!(lab.machine(id).state, "started");
}
