//! The life of machines, as scripts.

use crate::daemon::Settings;
use crate::lab::{Lab, check, check_with};
use expect_test::expect;
use rt::Clock;
use std::time::Duration;

/// Time is paused but for `tick`.
fn paused() -> Settings {
    let clock = Clock::manual(1_795_000_000_000_000_000);
    Settings { paused: true, clock, ..Settings::default() }
}

fn impatient() -> Settings {
    Settings { boot_deadline: Duration::from_millis(300), ..Settings::default() }
}

#[test]
fn a_machine_is_made_runs_stops_and_is_gone() {
    check(
        "create m1 serve 8080; wait m1 started; listens m1 8080; show; routes; ledger
         stop m1; wait m1 stopped; show; routes; ledger
         start m1; wait m1 started; ledger
         destroy m1; stop m1; wait m1 stopped; destroy m1; wait m1 destroyed; show; routes; ledger
         destroy m1; start m1; events m1",
        expect![[r#"
            m1 started
            m1 started [8080]
            vms: m1; remains: -; slots: [0]; dirs: m1
            m1 stopped
            m1 asleep []
            vms: -; remains: -; slots: []; dirs: m1
            vms: m1; remains: -; slots: [0]; dirs: m1
            destroy m1: a machine that is started cannot be destroyed without force
            m1 destroyed
            vms: -; remains: -; slots: []; dirs: -
            destroy m1: machine not found: 00000000000001 is destroyed
            start m1: machine is destroyed
            destroy by flyd -> destroyed
            destroy by user -> destroying
            exit by flyd -> stopped code=0 requested
            stop by user -> stopping
            start by flyd -> started
            start by user -> starting
            exit by flyd -> stopped code=0 requested
            stop by user -> stopping
            start by flyd -> started
            launch by user -> created
        "#]],
    );
}

#[test]
fn a_machine_that_is_not_launched_waits_for_a_start() {
    check(
        "create m1 serve --skip-launch; wait m1 stopped; show; ledger; wait m1 started 1
         stop m1; show; start m1; wait m1 started; show",
        expect![[r#"
            m1 stopped
            vms: -; remains: -; slots: []; dirs: -
            wait m1 started 1: machine did not reach started within 0 s; it is stopped
            m1 stopped
            m1 started
        "#]],
    );
}

#[test]
fn names_and_ids_are_unique() {
    check(
        "create m1 serve; create m2 serve --name=m1; create m3 serve --id-of=m1
         destroy m1 --force; wait m1 destroyed; create m4 serve --name=m1; wait m4 started; show",
        expect![[r#"
            create m2 serve --name=m1: a machine of that name exists
            create m3 serve --id-of=m1: another machine of the id 00000000000001 exists
            m1 destroyed
            m4 started
        "#]],
    );
}

#[test]
fn memory_is_given_once() {
    let small = Settings { memory_mib: 1000, ..Settings::default() };
    check_with(
        small,
        "create m1 serve --memory=600; wait m1 started; create m2 serve --memory=600
         create m3 serve --memory=600 --skip-launch; wait m3 stopped; start m3; host
         wait m1 started; stop m1; wait m1 stopped; host; start m3; wait m3 started; start m1; show
         wake m1; update m3 serve --memory=1200; update m3 serve --memory=900; wait m3 started; host",
        expect![[r#"
            create m2 serve --memory=600: could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)
            start m3: could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)
            memory 600/1000 {"started": 1, "stopped": 1}
            memory 0/1000 {"stopped": 2}
            start m1: could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)
            m1 stopped
            m3 started
            wake m1: NoCapacity("could not reserve resource for machine: insufficient memory available to fulfill request (600 MiB asked, 400 of 1000 MiB free on this host)")
            update m3 serve --memory=1200: could not reserve resource for machine: insufficient memory available to fulfill request (1200 MiB asked, 1000 of 1000 MiB free on this host)
            memory 900/1000 {"started": 1, "stopped": 1}
        "#]],
    );
}

#[test]
fn a_restart_is_a_new_boot() {
    check(
        "create m1 serve; wait m1 started; restart m1; wait m1 started; events m1; ledger
         restart m1 --force; wait m1 started; stop m1; wait m1 stopped; restart m1
         wait m1 started; show",
        expect![[r#"
            start by flyd -> started
            exit by flyd -> restarting code=0 requested restarting
            restart by user -> restarting
            start by flyd -> started
            launch by user -> created
            vms: m1; remains: -; slots: [0]; dirs: m1
            m1 started
        "#]],
    );
}

#[test]
fn an_update_replaces_the_instance() {
    check(
        "create m1 serve 80; wait m1 started; update m1 serve 90; wait m1 started; listens m1 90
         show; versions m1; routes; update m1 serve 100 --version=1
         update m1 serve 100 --version=2; wait m1 started; show
         stop m1; wait m1 stopped; update m1 serve 110 --skip-launch; show
         update m1 serve 120; wait m1 started; show; events m1 3",
        expect![[r#"
            m1 started v2
            v2 serve 90
            v1 serve 80
            m1 started [90]
            update m1 serve 100 --version=1: machine is at version v2, not at the version given as current_version
            m1 started v3
            m1 stopped v4
            m1 started v5
            start by flyd -> started
            update by user -> starting
            update by user -> stopped
        "#]],
    );
}

#[test]
fn ids_grow_though_the_clock_is_paused_or_set_back() {
    let mut printed = std::collections::BTreeSet::new();
    for seed in 1..8 {
        let settings = Settings { seed, ..paused() };
        let mut lab = Lab::new(settings);
        lab.script("create m1 serve --skip-launch; start m1; wait m1 started; kill");
        lab.settings.clock = Clock::manual(1_000_000_000);
        // `events` and `versions` check the order.
        lab.script(
            "daemon; update m1 serve; wait m1 started; update m1 serve; wait m1 started
             events m1; versions m1",
        );
        printed.insert(lab.take());
    }
    assert_eq!(printed.len(), 1, "the order is not left to chance: {printed:#?}");
}

#[test]
fn policy_no_leaves_it_down() {
    check(
        "create m1 exit 3 --policy=no; wait m1 stopped; show; events m1; ledger",
        expect![[r#"
        m1 stopped
        exit by flyd -> stopped code=3
        start by flyd -> started
        launch by user -> created
        vms: -; remains: -; slots: []; dirs: m1
    "#]],
    );
}

#[test]
fn success_under_on_failure_leaves_it_down() {
    check(
        "create m1 exit 0; wait m1 stopped; show; events m1",
        expect![[r#"
        m1 stopped
        exit by flyd -> stopped code=0
        start by flyd -> started
        launch by user -> created
    "#]],
    );
}

#[test]
fn failures_are_tried_again_until_the_policy_gives_up() {
    check_with(
        paused(),
        "create m1 exit 7 --retries=3; exits m1 2; show; tick 499ms; show; tick 1ms
         exits m1 3; tick 1s; wait m1 stopped; show; routes; events m1",
        expect![[r#"
            m1 restarting
            m1 restarting
            m1 stopped
            m1 asleep [] (it failed again after 3 restarts (exit code 7))
            exit by flyd -> stopped code=7
            start by flyd -> started
            exit by flyd -> restarting code=7 restarting
            start by flyd -> started
            exit by flyd -> restarting code=7 restarting
            start by flyd -> started
            exit by flyd -> restarting code=7 restarting
            start by flyd -> started
            launch by user -> created
        "#]],
    );
}

#[test]
fn always_is_always() {
    check_with(
        paused(),
        "create m1 exit 0 --policy=always; exits m1 2; tick 500ms; exits m1 3; tick 1s
         exits m1 4; show; stop m1; wait m1 stopped; show; events m1 2; ledger",
        expect![[r#"
            m1 restarting
            m1 stopped
            stop by flyd -> stopped
            stop by user -> stopping
            vms: -; remains: -; slots: []; dirs: m1
        "#]],
    );
}

#[test]
fn a_start_during_the_pause_waits_for_it_and_a_restart_does_not() {
    check_with(
        paused(),
        "create m1 exit 1 --policy=always; exits m1 2; start m1; show
         update m1 serve; wait m1 started; show",
        expect![[r#"
            m1 restarting
            m1 started v2
        "#]],
    );
}

#[test]
fn a_pause_continues_over_a_new_daemon() {
    check_with(
        paused(),
        "create m1 exit 1 --policy=always; exits m1 2; kill; daemon; show; tick 499ms; show
         tick 1ms; exits m1 3",
        expect![[r#"
            m1 restarting
            m1 restarting
        "#]],
    );
}

#[test]
fn auto_destroy_removes_it_when_it_has_ended() {
    check(
        "create m1 exit 0 --rm; wait m1 destroyed; show; ledger; events m1
         create m2 serve --rm --policy=no; wait m2 started; stop m2; wait m2 destroyed; ledger",
        expect![[r#"
            m1 destroyed
            vms: -; remains: -; slots: []; dirs: -
            destroy by flyd -> destroyed
            destroy by flyd -> destroying
            exit by flyd -> stopped code=0
            start by flyd -> started
            launch by user -> created
            vms: -; remains: -; slots: []; dirs: -
        "#]],
    );
}

#[test]
fn an_exit_for_lack_of_memory_is_reported() {
    check(
        "create m1 oom --policy=no; wait m1 stopped; events m1 1",
        expect![[r#"
        exit by flyd -> stopped code=137 guest_signal=9 oom
    "#]],
    );
}

#[test]
fn a_process_that_ignores_its_signal_is_killed_in_time() {
    check(
        "create m1 stubborn --timeout=20ms; wait m1 started; stop m1; wait m1 stopped; events m1 1
         start m1; wait m1 started; stop m1 --timeout=3600000; stop m1 --signal=9
         wait m1 stopped; events m1 3",
        expect![[r#"
            exit by flyd -> stopped code=137 guest_signal=9 requested
            exit by flyd -> stopped code=137 guest_signal=9 requested
            stop by user -> stopping
            stop by user -> stopping
        "#]],
    );
}

#[test]
fn a_start_while_stopping_starts_it_again() {
    check(
        "create m1 stubborn --policy=no; wait m1 started; stop m1; start m1; show
         guest m1 exit 0; wait m1 started; show; events m1",
        expect![[r#"
            m1 stopping
            m1 started
            start by flyd -> started
            exit by flyd -> stopped code=0 requested restarting
            start by user -> stopping
            stop by user -> stopping
            start by flyd -> started
            launch by user -> created
        "#]],
    );
}

#[test]
fn a_stop_while_starting_gives_the_start_up() {
    check(
        "hold-pulls; create m1 serve; stop m1; wait m1 stopped; show; ledger; events m1
         create m2 serve; wait m2 starting; stop m2; wait m2 stopped; show; ledger; release-pulls
         create m3 serve --silent; wait m3 starting; stop m3; wait m3 stopped; show; ledger",
        expect![[r#"
            m1 stopped
            vms: -; remains: -; slots: []; dirs: -
            exit by flyd -> stopped code=137 guest_signal=9 requested (the VM ended before its init reported an exit status)
            stop by user -> stopping
            launch by user -> created
            m1 stopped
            m2 stopped
            vms: -; remains: -; slots: []; dirs: -
            m1 stopped
            m2 stopped
            m3 stopped
            vms: -; remains: -; slots: []; dirs: m3
        "#]],
    );
}

#[test]
fn a_request_during_a_failing_start_is_not_lost() {
    check(
        "hold-pulls; create m1 config-fails bad; wait m1 starting; update m1 serve; release-pulls
         wait m1 started; show
         create m2 serve --silent; wait m2 starting; restart m2; show; destroy m2 --force
         wait m2 destroyed; ledger",
        expect![[r#"
            m1 started v2
            m1 started v2
            m2 restarting
            vms: m1; remains: -; slots: [0]; dirs: m1
        "#]],
    );
}

#[test]
fn an_unknown_image_fails_with_its_reason() {
    check(
        "create m1 serve --image=nothing:1; wait m1 failed; wait m1 started; show; events m1 1
         routes; ledger; wake m1; update m1 serve; wait m1 started; show",
        expect![[r#"
            wait m1 started: machine failed to reach desired state, started: it is failed: image "nothing:1" was not found: the registry has none
            m1 failed
            launch_failed by flyd -> failed (image "nothing:1" was not found: the registry has none)
            m1 unavailable [] (image "nothing:1" was not found: the registry has none)
            vms: -; remains: -; slots: []; dirs: -
            wake m1: Failed("machine failed to reach desired state, started: it is failed: image \"nothing:1\" was not found: the registry has none")
            m1 started v2
        "#]],
    );
}

#[test]
fn a_config_that_cannot_be_applied_fails_with_the_guests_reason() {
    check(
        "create m1 config-fails no_such_user; wait m1 failed; show; events m1 1; ledger
         create m2 --image=empty; wait m2 failed; events m2 1",
        expect![[r#"
            m1 failed
            launch_failed by flyd -> failed (no such user)
            vms: -; remains: -; slots: []; dirs: m1
            launch_failed by flyd -> failed (nothing to run: the image has neither ENTRYPOINT nor CMD, and config.init gives no exec, entrypoint or cmd)
        "#]],
    );
}

#[test]
fn boots_that_fail_are_tried_again_if_that_may_help() {
    check(
        "create m4 crash-vm; wait m4 failed; events m4 1
         fail-boots transient transient; create m1 serve; wait m1 started; show
         fail-boots transient transient transient; create m2 serve; wait m2 failed; events m2 1
         fail-boots final; create m3 serve; wait m3 failed; events m3 1; ledger",
        expect![[r#"
            launch_failed by flyd -> failed (the VM ended before its init reported an exit status; end of its console: it crashed)
            m4 failed
            m1 started
            launch_failed by flyd -> failed (no KVM just now)
            launch_failed by flyd -> failed (no such kernel)
            vms: m1; remains: -; slots: [1]; dirs: m4 m1 m2 m3
        "#]],
    );
}

#[test]
fn guests_that_never_answer_or_never_run_fail() {
    check_with(
        impatient(),
        "create m1 serve --silent; wait m1 failed; events m1 1
         create m2 never-runs; wait m2 failed; events m2 1; ledger",
        expect![[r#"
            launch_failed by flyd -> failed (guest did not answer within 300ms)
            launch_failed by flyd -> failed (its main process did not start in time)
            vms: -; remains: -; slots: []; dirs: m1 m2
        "#]],
    );
}

#[test]
fn a_vm_that_dies_is_an_exit() {
    check(
        "create m1 serve; wait m1 started; guest m1 crash; exits m1 1; wait m1 started; events m1 3
         create m2 serve --policy=no; wait m2 started; guest m2 crash; wait m2 stopped
         show; ledger",
        expect![[r#"
            start by flyd -> started
            exit by flyd -> restarting code=137 guest_signal=9 restarting (the VM ended before its init reported an exit status; end of its console: it crashed)
            start by flyd -> started
            m1 started
            m2 stopped
            vms: m1; remains: -; slots: [0]; dirs: m1 m2
        "#]],
    );
}

#[test]
fn labels_and_cordons_make_no_version() {
    check(
        "create m1 serve 80; wait m1 started; listens m1 80; label m1 role=web; label m1 a=b
         label m1 a; cordon m1; show; routes; versions m1; uncordon m1; routes",
        expect![[r#"
            m1 started cordoned role=web
            m1 started [80] cordoned
            v1 serve 80
            m1 started [80]
        "#]],
    );
}

#[test]
fn logs_are_kept_over_boots_and_daemons() {
    check(
        "create m1 flood 3; wait m1 started; guest m1 log hello; guest m1 exit 0; wait m1 stopped
         logs m1; start m1; wait m1 started; kill; guest m1 log no follower; daemon
         guest m1 exit 0; wait m1 stopped; logs m1",
        expect![[r#"
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [app] line 0
            [app] line 1
            [app] line 2
            [app] hello
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [app] line 0
            [app] line 1
            [app] line 2
            [app] hello
            [runner] Pulling container image app
            [runner] Successfully prepared image app (0.0s)
            [app] line 0
            [app] line 1
            [app] line 2
            [app] no follower
        "#]],
    );
}

#[test]
fn commands_run_beside_the_main_process() {
    check(
        "create m1 serve; exec m1 echo early; wait m1 started; exec m1 echo hi there
         exec m1 cat <input; exec m1 false; exec m1 nothing; exec m1 spew 2000000; ps m1
         stop m1; wait m1 stopped; exec m1 echo late; ps m1; signal m1 15",
        expect![[r#"
            early Exited { code: 0, signal: 0 }
            hi there Exited { code: 0, signal: 0 }
            input Exited { code: 0, signal: 0 }
            Exited { code: 1, signal: 0 }
            Failed(NotFound("nothing: not found"))
            (2000000 bytes) Exited { code: 0, signal: 0 }
            42 main
            exec m1 echo late: machine is stopped: it has to be started for this
            ps m1: machine is stopped: it has to be started for this
            signal m1 15: machine is stopped: only a started machine takes signals
        "#]],
    );
}

#[test]
fn signals_reach_the_main_process() {
    check(
        "create m1 serve --policy=no; wait m1 started; signal m1 15; wait m1 stopped
         events m1 1; create m2 stubborn --policy=no; wait m2 started; signal m2 9
         wait m2 stopped; events m2 1",
        expect![[r#"
            exit by flyd -> stopped code=0
            exit by flyd -> stopped code=137 guest_signal=9
        "#]],
    );
}

#[test]
fn wakes_and_idle_stops() {
    check(
        "create m1 serve; wait m1 started; wake m1; idle m1; wait m1 stopped; wake m1; show
         idle m1; wake m1; show; events m1 4; wake m2; idle m2
         destroy m1 --force; wait m1 destroyed; wake m1",
        expect![[r#"
            m1 started
            m1 started
            start by flyd -> started
            exit by flyd -> stopped code=0 requested restarting
            start by proxy -> stopping
            stop by proxy -> stopping (no load)
            wake m2: Gone
            idle m2: Gone
            wake m1: Gone
        "#]],
    );
}

#[test]
fn waits_end_when_it_is_hopeless_or_too_late() {
    check(
        "create m1 serve; wait m1 started; wait m1 stopped 5; wait m1 destroyed|started; wait m2 started
         create m2 config-fails bad; wait m2 started|stopped; wait m2 settled",
        expect![[r#"
            wait m1 stopped 5: machine did not reach stopped within 0 s; it is started
            wait m2 started: machine not found: 0000000000ffff
            wait m2 started|stopped: machine failed to reach desired state, started or stopped: it is failed: bad
        "#]],
    );
}

#[test]
fn a_new_daemon_takes_over_what_runs() {
    check(
        "create m1 serve 80; create m2 serve; create m3 serve; wait m1 started; wait m2 started
         wait m3 started; stop m3; wait m3 stopped; listens m1 80; kill; guest m1 listen 81
         guest m2 exit 4; daemon; exits m2 1; wait m2 started; show; routes
         ledger; events m2 3; events m1 1; exec m1 echo still here",
        expect![[r#"
            m1 started
            m2 started
            m3 stopped
            m1 started [80, 81]
            m2 started []
            m3 asleep []
            vms: m1 m2; remains: -; slots: [0, 1]; dirs: m1 m2 m3
            start by flyd -> started
            exit by flyd -> restarting code=4 restarting
            start by flyd -> started
            start by flyd -> started
            still here Exited { code: 0, signal: 0 }
        "#]],
    );
}

#[test]
fn a_stop_continues_over_a_new_daemon() {
    check(
        "create m1 stubborn --timeout=20ms; wait m1 started; stop m1; kill; daemon
         wait m1 stopped; events m1 2
         create m2 serve; wait m2 started; stop m2; kill; daemon; wait m2 stopped; events m2 2",
        expect![[r#"
            exit by flyd -> stopped code=137 guest_signal=9 requested
            stop by user -> stopping
            exit by flyd -> stopped code=0 requested
            stop by user -> stopping
        "#]],
    );
}

#[test]
fn after_a_power_cut_what_should_run_runs() {
    check(
        "create m1 serve; create m2 serve --policy=no; create m3 serve; create m4 serve --policy=always
         wait m1 started; wait m2 started; wait m3 started; wait m4 started; stop m3
         wait m3 stopped; power-cut; ledger; daemon; wait m1 started; wait m4 started
         wait m2 stopped; show; ledger; events m1 3; events m2 1",
        expect![[r#"
            vms: -; remains: m1 m2 m4; slots: []; dirs: m1 m2 m3 m4
            m1 started
            m2 stopped
            m3 stopped
            m4 started
            vms: m1 m4; remains: -; slots: [0, 3]; dirs: m1 m2 m3 m4
            start by flyd -> started
            exit by flyd -> restarting code=137 guest_signal=9 restarting (the VM ended before its init reported an exit status)
            start by flyd -> started
            exit by flyd -> stopped code=137 guest_signal=9 (the VM ended before its init reported an exit status)
        "#]],
    );
}

#[test]
fn a_power_cut_loses_no_desired_state() {
    let made = "create m1 serve --policy=no";
    let runs = format!("{made}; wait m1 started");
    let cut = "power-cut; daemon; wait m1";
    for (script, expected) in [
        (
            format!("{made}; {cut} started; show"),
            expect![[r#"
            m1 started
        "#]],
        ),
        (
            format!("{runs}; restart m1; {cut} started; show; events m1"),
            expect![[r#"
                m1 started
                start by flyd -> started
                exit by flyd -> restarting code=137 guest_signal=9 requested restarting (the VM ended before its init reported an exit status)
                restart by user -> restarting
                start by flyd -> started
                launch by user -> created
            "#]],
        ),
        (
            format!("{runs}; update m1 serve --policy=no; {cut} started; show"),
            expect![[r#"
            m1 started v2
        "#]],
        ),
        (
            format!("{runs}; stop m1; start m1; {cut} started; show"),
            expect![[r#"
            m1 started
        "#]],
        ),
        (
            format!("{runs}; stop m1; {cut} stopped; show; events m1 1"),
            expect![[r#"
                m1 stopped
                exit by flyd -> stopped code=137 guest_signal=9 requested (the VM ended before its init reported an exit status)
            "#]],
        ),
        (
            format!("{runs}; destroy m1 --force; {cut} destroyed; show; ledger"),
            expect![[r#"
            m1 destroyed
            vms: -; remains: -; slots: []; dirs: -
        "#]],
        ),
    ] {
        check(&script, expected);
    }
}
