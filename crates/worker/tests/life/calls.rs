//! What calls wait for, and what a machine that is down does by itself.

use crate::daemon::Settings;
use crate::lab::{check, check_with};
use expect_test::expect;

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
            Failed("true: not found")
            exec m1 true: machine is stopped: it has to be started for this
        "#]],
    );
}

#[test]
fn a_machine_that_is_not_launched_is_prepared_and_stopped() {
    check(
        "hold-pulls; create m1 serve --skip-launch; show; release-pulls; wait m1 stopped; show
         events m1; wait m1 settled; start m1; wait m1 started; show
         hold-pulls; create m2 serve --skip-launch; start m2; release-pulls; wait m2 started; show",
        expect![[r#"
            m1 created
            m1 stopped
            stop by flyd -> stopped (prepared, not started)
            launch by user -> created
            m1 started
            m1 started
            m2 started
        "#]],
    );
}

#[test]
fn an_image_that_cannot_be_prepared_is_told_and_the_start_finds_out() {
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
