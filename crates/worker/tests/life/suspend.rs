//! Suspend and resume, as scripts.

use crate::daemon::Settings;
use crate::lab::{Lab, check, check_with};
use expect_test::expect;
use std::time::Duration;

/// A machine that runs, with a mark on its disk.
const RUNS: &str = "create m1 serve 80 --hook=hello; wait m1 started; listens m1 80; mark m1";

fn script(rest: &str) -> String {
    format!("{RUNS}; {rest}")
}

#[test]
fn a_machine_is_suspended_and_resumes_where_it_was() {
    check(
        &script(
            "guest m1 listen 81; listens m1 81; host; suspend m1; suspend m1; wait m1 suspended
             suspend m1; show; routes; ledger; host; start m1; wait m1 started; routes; disk m1
             exec m1 echo hi; ledger; suspend m1; wait m1 suspended; start m1; wait m1 started
             exec m1 echo again; disk m1; logs m1; events m1",
        ),
        expect![[r#"
            memory 256/4096 {"started": 1}
            m1 suspended
            m1 asleep [] suspended
            vms: -; remains: -; slots: []; dirs: m1; snapshots: m1
            memory 0/4096 {"suspended": 1}
            m1 resumes
            m1 started [80, 81]
            m1's disk is kept
            hi Exited { code: 0, signal: 0 }
            vms: m1; remains: -; slots: [0]; dirs: m1; snapshots: m1
            m1 resumes
            again Exited { code: 0, signal: 0 }
            m1's disk is kept
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [app] resumed hello
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [app] resumed hello
            start by flyd -> started resumed
            start by user -> starting
            suspend by flyd -> suspended
            suspend by user -> suspending
            start by flyd -> started resumed
            start by user -> starting
            suspend by flyd -> suspended
            suspend by user -> suspending
            start by flyd -> started
            launch by user -> created
        "#]],
    );
}

#[test]
fn only_what_runs_and_can_be_is_suspended() {
    check(
        "create m1 serve --swap=64; wait m1 started; suspend m1; sleep m1; wait m1 stopped
         events m1 2; suspend m1
         create m2 serve --schedule=daily; wait m2 started; suspend m2; sleep m2; wait m2 stopped
         create m3 serve --skip-launch; wait m3 stopped; suspend m3; sleep m3; sleep m4
         create m5 serve --memory=3000; wait m5 started; sleep m5; wait m5 suspended; events m5 2",
        expect![[r#"
            suspend m1: machine cannot be suspended: it has swap (init.swap_size_mb)
            exit by flyd -> stopped code=0 requested
            stop by proxy -> stopping (no load; it cannot be suspended: it has swap (init.swap_size_mb))
            suspend m1: a machine that is stopped cannot be suspended
            suspend m2: machine cannot be suspended: it runs on a schedule
            suspend m3: a machine that is stopped cannot be suspended
            sleep m3: NotStartable("a machine that is stopped cannot be suspended")
            sleep m4: Gone
            suspend by flyd -> suspended
            suspend by proxy -> suspending (no load)
        "#]],
    );
}

#[test]
fn a_suspended_machine_that_is_stopped_updated_or_restarted_begins_afresh() {
    check(
        &script(
            "suspend m1; wait m1 suspended; stop m1; wait m1 stopped; show; forgets m1; ledger
             start m1; wait m1 started; disk m1; mark m1
             suspend m1; wait m1 suspended; restart m1; wait m1 started; disk m1; mark m1
             suspend m1; wait m1 suspended; update m1 serve 90; wait m1 started; disk m1; mark m1
             suspend m1; wait m1 suspended; update m1 serve 90 --skip-launch; show; forgets m1; ledger
             start m1; wait m1 started; suspend m1; wait m1 suspended
             destroy m1; wait m1 destroyed; ledger; events m1 4",
        ),
        expect![[r#"
            m1 stopped
            vms: -; remains: -; slots: []; dirs: m1
            m1's disk is fresh
            m1's disk is fresh
            m1's disk is fresh
            m1 stopped v3
            vms: -; remains: -; slots: []; dirs: m1
            vms: -; remains: -; slots: []; dirs: -
            destroy by flyd -> destroyed
            destroy by user -> destroying
            suspend by flyd -> suspended
            suspend by user -> suspending
        "#]],
    );
}

#[test]
fn memory_that_is_lost_costs_the_memory_but_not_the_disk() {
    for (damage, expected) in [
        (
            "all",
            expect![[r#"
            m1's disk is kept
            start by flyd -> started
            resume_failed by flyd -> starting (cannot be resumed: its snapshot is missing; booting instead)
            start by user -> starting
            suspend by flyd -> suspended
            vms: m1; remains: -; slots: [0]; dirs: m1
            m1's disk is fresh
        "#]],
        ),
        (
            "manifest",
            expect![[r#"
            m1's disk is kept
            start by flyd -> started
            resume_failed by flyd -> starting (cannot be resumed: its snapshot is missing; booting instead)
            start by user -> starting
            suspend by flyd -> suspended
            vms: m1; remains: -; slots: [0]; dirs: m1
            m1's disk is fresh
        "#]],
        ),
        (
            "ram",
            expect![[r#"
            m1 resumes
            m1's disk is kept
            start by flyd -> started
            resume_failed by flyd -> starting (cannot be resumed: the snapshot does not fit; booting instead)
            start by user -> starting
            suspend by flyd -> suspended
            vms: m1; remains: -; slots: [0]; dirs: m1
            m1's disk is fresh
        "#]],
        ),
    ] {
        let rest = format!(
            "suspend m1; wait m1 suspended; break m1 {damage}; start m1; wait m1 started; disk m1
             events m1 4; forgets m1; ledger; stop m1; wait m1 stopped; start m1; wait m1 started
             disk m1"
        );
        check(&script(&rest), expected);
    }
}

#[test]
fn a_lost_disk_is_reported_and_recreated() {
    check(
        &script(
            "suspend m1; wait m1 suspended; break m1 disk; start m1; wait m1 started; disk m1
             events m1 2",
        ),
        expect![[r#"
            m1's disk is fresh
            start by flyd -> started
            resume_failed by flyd -> starting (cannot be resumed: its disk is missing or of another size; booting instead)
        "#]],
    );
}

#[test]
fn a_boot_from_a_snapshot_that_may_work_later_is_tried_again() {
    check(
        &script(
            "suspend m1; wait m1 suspended; fail-boots transient; start m1; wait m1 started
             disk m1; events m1 1; suspend m1; wait m1 suspended
             fail-boots transient transient transient; start m1; wait m1 started; disk m1
             events m1 2",
        ),
        expect![[r#"
            m1 resumes
            m1's disk is kept
            start by flyd -> started resumed
            m1 resumes
            m1's disk is kept
            start by flyd -> started
            resume_failed by flyd -> starting (cannot be resumed: no KVM just now; booting instead)
        "#]],
    );
}

#[test]
fn a_suspend_that_fails_leaves_it_running() {
    check(
        &script(
            "fail-suspends; suspend m1; wait m1 started; exec m1 echo hi; routes; ledger
             events m1 2; fail-suspends; sleep m1; wait m1 stopped; events m1 4; ledger",
        ),
        expect![[r#"
            hi Exited { code: 0, signal: 0 }
            m1 started [80]
            vms: m1; remains: -; slots: [0]; dirs: m1
            suspend_failed by flyd -> started (cannot be suspended: no space left on device; it keeps running)
            suspend by user -> suspending
            exit by flyd -> stopped code=0 requested
            suspend_failed by flyd -> stopping (cannot be suspended: no space left on device; stopping instead)
            suspend by proxy -> suspending (no load)
            suspend_failed by flyd -> started (cannot be suspended: no space left on device; it keeps running)
            vms: -; remains: -; slots: []; dirs: m1
        "#]],
    );
}

#[test]
fn a_start_during_a_suspend_resumes_at_once() {
    check(
        &script(
            "hold-suspends; suspend m1; show; exec m1 echo no; start m1; wait m1 started
             exec m1 echo hi; routes; events m1 4; suspend m1; start m1; suspend m1
             release-suspends; wait m1 suspended; start m1; wait m1 started; disk m1; ledger",
        ),
        expect![[r#"
            m1 suspending
            exec m1 echo no: machine is suspending: it has to be started for this
            hi Exited { code: 0, signal: 0 }
            m1 started [80]
            start by flyd -> started (the suspend was aborted; the machine keeps running)
            start by user -> suspending
            suspend by user -> suspending
            start by flyd -> started
            m1 resumes
            m1's disk is kept
            vms: m1; remains: -; slots: [0]; dirs: m1; snapshots: m1
        "#]],
    );
}

#[test]
fn a_stop_during_a_suspend_stops_it_gracefully() {
    check(
        &script(
            "hold-suspends; suspend m1; stop m1; wait m1 stopped; events m1 3; ledger
             start m1; wait m1 started; suspend m1; restart m1; wait m1 started; events m1 4
             suspend m1; update m1 serve 90; wait m1 started; listens m1 90; ledger
             suspend m1; destroy m1; destroy m1 --force; wait m1 destroyed; ledger",
        ),
        expect![[r#"
            exit by flyd -> stopped code=0 requested
            stop by user -> stopping
            suspend by user -> suspending
            vms: -; remains: -; slots: []; dirs: m1
            start by flyd -> started
            exit by flyd -> restarting code=0 requested restarting
            restart by user -> restarting
            suspend by user -> suspending
            vms: m1; remains: -; slots: [0]; dirs: m1
            destroy m1: a machine that is suspending cannot be destroyed without force
            vms: -; remains: -; slots: []; dirs: -
        "#]],
    );
}

#[test]
fn a_process_that_ends_while_it_is_suspended_has_ended() {
    check(
        &script(
            "hold-suspends; suspend m1; guest m1 exit 3; wait m1 stopped; events m1 2; ledger
             release-suspends; start m1; wait m1 started; suspend m1; wait m1 suspended",
        ),
        expect![[r#"
            exit by flyd -> stopped code=3 requested
            suspend by user -> suspending
            vms: -; remains: -; slots: []; dirs: m1
        "#]],
    );
}

#[test]
fn a_suspended_machine_outlives_daemons_and_power_cuts() {
    check(
        &script(
            "suspend m1; wait m1 suspended; kill; daemon; show; routes; power-cut; daemon; show
             start m1; wait m1 started; exec m1 echo hi; disk m1; ledger; logs m1",
        ),
        expect![[r#"
            m1 suspended
            m1 asleep [] suspended
            m1 suspended
            m1 resumes
            hi Exited { code: 0, signal: 0 }
            m1's disk is kept
            vms: m1; remains: -; slots: [0]; dirs: m1; snapshots: m1
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [app] resumed hello
        "#]],
    );
}

#[test]
fn a_suspend_continues_over_a_new_daemon() {
    check(
        &script(
            "hold-suspends; suspend m1; kill; release-suspends; daemon; wait m1 suspended; ledger
             start m1; wait m1 started; hold-suspends; suspend m1; power-cut; daemon
             wait m1 stopped; forgets m1; ledger; start m1; wait m1 started; disk m1; events m1 3",
        ),
        expect![[r#"
            vms: -; remains: -; slots: []; dirs: m1; snapshots: m1
            m1 resumes
            vms: -; remains: -; slots: []; dirs: m1
            m1's disk is kept
            start by flyd -> started
            start by user -> starting
            exit by flyd -> stopped code=137 guest_signal=9 requested (the VM ended before its init reported an exit status)
        "#]],
    );
}

#[test]
fn memory_is_free_while_it_sleeps_and_missed_if_it_is_another_s_then() {
    let small = Settings { memory_mib: 1000, ..Settings::default() };
    check_with(
        small,
        "create m1 serve --memory=600; wait m1 started; suspend m1; wait m1 suspended
         create m2 serve --memory=600; wait m2 started; start m1; wake m1; show; stop m2
         wait m2 stopped; wake m1; show; host",
        expect![[r#"
            start m1: could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)
            wake m1: NoCapacity("could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)")
            m1 suspended
            m2 started
            m1 started
            m2 stopped
            memory 600/1000 {"started": 1, "stopped": 1}
        "#]],
    );
}

#[test]
fn a_guest_that_does_not_answer_after_its_resume_is_booted() {
    let settings = Settings { boot_deadline: Duration::from_millis(300), ..Settings::default() };
    check_with(
        settings,
        &script(
            "suspend m1; wait m1 suspended; mute-snapshot m1; start m1; wait m1 started
             wait m1 starting; wait m1 started; disk m1; events m1 3; forgets m1; ledger",
        ),
        expect![[r#"
            m1 resumes
            m1's disk is kept
            start by flyd -> started
            resume_failed by flyd -> restarting (cannot be resumed: its VM was lost before it answered; booting instead)
            start by flyd -> started resumed
            vms: m1; remains: -; slots: [0]; dirs: m1
        "#]],
    );
}

#[test]
fn a_machine_that_has_just_resumed_is_suspended_without_waiting_for_its_edge_twice() {
    let clock = rt::Clock::manual(1_795_000_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    let edge = lab.edge();
    // The edge has drained it before the session with the resumed guest is open.
    lab.script(
        "create m1 serve 80 --services; wait m1 started; suspend m1; drained m1
         wait m1 suspended; start m1; wait m1 started; suspend m1; drained m1
         tick 500ms; wait m1 suspended 400; show",
    );
    expect![[r#"
        m1 resumes
        m1 suspended
    "#]]
    .assert_eq(&lab.take());
    edge.abort();
    lab.kill();
}

#[test]
fn a_suspend_waits_for_requests_in_flight_at_the_edge() {
    let clock = rt::Clock::manual(1_795_000_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    let edge = lab.edge();
    lab.script(
        "create m1 serve 80 --services; wait m1 started; suspend m1; tick 900ms; show; routes
         drained m1; wait m1 suspended; start m1; wait m1 started; exec m1 false
         suspend m1; tick 999ms; show; start m1; wait m1 started; suspend m1; tick 500ms; stop m1
         tick 900ms; show; drained m1; wait m1 stopped; events m1 4",
    );
    expect![[r#"
        m1 suspending
        m1 stopping []
        m1 resumes
        Exited { code: 1, signal: 0 }
        m1 suspending
        m1 stopping
        exit by flyd -> stopped code=0 requested
        stop by user -> stopping
        suspend by user -> suspending
        start by flyd -> started (the suspend was aborted; the machine keeps running)
    "#]]
    .assert_eq(&lab.take());
    edge.abort();
    lab.kill();
}

#[test]
fn a_disk_that_no_later_boot_uses_is_removed_with_its_snapshot() {
    for change in ["stop m1", "update m1 serve --skip-launch"] {
        let mut lab = Lab::new(Settings::default());
        lab.script("create m1 serve; wait m1 started; suspend m1; wait m1 suspended");
        let dir = lab.world.data_dir().join("machines").join(lab.id("m1").to_string());
        assert!(dir.join("scratch.ext4").exists());
        lab.script(&format!("{change}; wait m1 stopped"));
        lab.run(async {
            while dir.join("scratch.ext4").exists() {
                tokio::task::yield_now().await;
            }
        });
        lab.script("start m1; wait m1 started");
        assert_eq!(lab.take(), "");
    }
}

#[test]
fn a_harsher_stop_ends_the_drain_of_the_one_before() {
    let clock = rt::Clock::manual(1_795_000_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    let edge = lab.edge();
    lab.script(
        "create m1 serve 80 --services; wait m1 started; guest m1 hang
         stop m1; tick 500ms; stop m1 --signal=9 --timeout=0; tick 9s; show",
    );
    assert_eq!(lab.take(), "m1 stopping\n", "the guest has 10 s beyond the timeout");
    lab.script("tick 2s; wait m1 stopped; show");
    assert_eq!(lab.take(), "m1 stopped\n");
    edge.abort();
    lab.kill();
}
