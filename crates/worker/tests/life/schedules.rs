//! Machines with a schedule: when they run, what overlaps, what was missed, and crashes.

use crate::daemon::Settings;
use crate::lab::{Lab, user};
use host_api::{AcquireLease, CallContext, HostError, Leases, Machines, Schedules};
use serde_json::{Value, json};
use std::time::Duration;
use wire::machines::{MachineConfig, ScheduleRun};

/// 2026-01-01T10:30:00Z.
const BEGIN: i64 = 1_767_263_400;

fn lab() -> Lab {
    let clock = rt::Clock::manual(BEGIN * 1_000_000_000);
    Lab::new(Settings { paused: true, clock, ..Settings::default() })
}

/// Creates `m1`, which runs at each full hour, with what `more` adds to its config.
fn create(lab: &mut Lab, argv: &[&str], more: Value) {
    let mut create = lab.creation("m1", argv);
    let mut config = serde_json::to_value(&create.config).unwrap();
    let config = config.as_object_mut().unwrap();
    config.insert("schedule".into(), "0 * * * *".into());
    config.insert("restart".into(), json!({ "policy": "no" }));
    config.extend(more.as_object().unwrap().clone());
    create.config = serde_json::from_value::<MachineConfig>(json!(config)).unwrap();
    create.skip_launch = true;
    let worker = lab.worker();
    lab.run(async { worker.create(user(), create).await }).unwrap();
    lab.script("wait m1 stopped");
}

fn runs(lab: &Lab) -> Vec<ScheduleRun> {
    let (worker, id) = (lab.worker(), lab.id("m1"));
    lab.run(async { worker.runs(user(), id, 100).await }).unwrap()
}

/// `trigger status scheduled exit-code` per run, oldest first.
fn shown(lab: &Lab) -> String {
    let line = |run: &ScheduleRun| {
        let code = run.exit_code.map(|code| format!(" {code}")).unwrap_or_default();
        format!("{} {} {}{code}", run.trigger, run.status, &run.scheduled_at[11..16])
    };
    runs(lab).iter().rev().map(line).collect::<Vec<_>>().join(", ")
}

/// Lets the daemon run, without time passing, until the runs are these.
fn until(lab: &Lab, expected: &str) {
    for _ in 0..20_000 {
        if shown(lab) == expected {
            return;
        }
        // The database answers from a thread of its own, in real time.
        std::thread::sleep(Duration::from_millis(1));
        lab.run(async {
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
        });
    }
    assert_eq!(shown(lab), expected);
}

/// Time passes, minute by minute.
fn pass(lab: &mut Lab, minutes: u64) {
    for _ in 0..minutes {
        lab.script("tick 60s");
    }
}

fn run_now(lab: &Lab) -> Result<ScheduleRun, HostError> {
    run_with(lab, user())
}

fn run_with(lab: &Lab, context: CallContext) -> Result<ScheduleRun, HostError> {
    let (worker, id) = (lab.worker(), lab.id("m1"));
    // The deadline counts from now on the lab's own time.
    let context = |now: CallContext| CallContext { deadline: now.deadline, ..context };
    lab.run(async { worker.run_now(context(user()), id).await })
}

#[test]
fn a_machine_runs_at_its_time_and_each_run_is_recorded() {
    let mut lab = lab();
    create(&mut lab, &["exit", "0"], json!({}));
    assert_eq!(shown(&lab), "");
    pass(&mut lab, 29);
    assert_eq!(shown(&lab), "");
    pass(&mut lab, 1);
    until(&lab, "schedule succeeded 11:00 0");
    let run = runs(&lab).remove(0);
    assert!(run.duration_ms.is_some() && run.started_at.is_some() && run.ended_at.is_some());
    // The next run is not forgotten by a daemon that is killed, and no run is repeated.
    lab.kill();
    lab.restart();
    lab.script("wait m1 stopped");
    pass(&mut lab, 60);
    until(&lab, "schedule succeeded 11:00 0, schedule succeeded 12:00 0");
    // A start by hand is a run as well.
    lab.script("start m1; exits m1 3; wait m1 stopped");
    until(&lab, "schedule succeeded 11:00 0, schedule succeeded 12:00 0, start succeeded 12:00 0");
    assert_eq!(lab.take(), "");
}

#[test]
fn a_run_that_fails_or_is_stopped_is_recorded_so() {
    let mut lab = lab();
    create(&mut lab, &["exit", "3"], json!({}));
    run_now(&lab).unwrap();
    until(&lab, "manual failed 10:30 3");
    lab.script("update m1 serve --schedule=hourly --skip-launch; wait m1 stopped");
    run_now(&lab).unwrap();
    lab.script("wait m1 started; stop m1; wait m1 stopped");
    until(&lab, "manual failed 10:30 3, manual stopped 10:30 0");
    // Without a schedule there is no run.
    lab.script("update m1 serve --skip-launch; wait m1 stopped");
    let refused = run_now(&lab).unwrap_err().to_string();
    assert!(refused.contains("has no schedule"), "{refused}");
    pass(&mut lab, 90);
    assert_eq!(shown(&lab), "manual failed 10:30 3, manual stopped 10:30 0");
}

#[test]
fn overlapping_runs_are_skipped_queued_or_replace_the_other() {
    for (overlap, expected) in [
        (None, "schedule running 11:00, schedule skipped 12:00"),
        (Some("queue"), "schedule running 11:00, schedule queued 12:00"),
        (Some("replace"), "schedule replaced 11:00, schedule running 12:00"),
    ] {
        let mut lab = lab();
        let options = json!({ "schedule_options": { "overlap": overlap } });
        create(&mut lab, &["serve"], options);
        pass(&mut lab, 30);
        until(&lab, "schedule running 11:00");
        lab.script("wait m1 started");
        pass(&mut lab, 60);
        until(&lab, expected);
        match overlap {
            None => {
                let refused = run_now(&lab).unwrap_err();
                assert!(matches!(refused, HostError::Conflict(_)), "{refused:?}");
            }
            Some("queue") => {
                // One waits at most, and it outlives the daemon.
                assert!(run_now(&lab).is_err());
                lab.kill();
                lab.restart();
                lab.script("wait m1 started; guest m1 exit 0; exits m1 1; wait m1 started");
                until(&lab, "schedule succeeded 11:00 0, schedule running 12:00");
            }
            _ => {
                lab.script("exits m1 1; wait m1 started; guest m1 exit 4; wait m1 stopped");
                until(&lab, "schedule replaced 11:00, schedule failed 12:00 4");
            }
        }
        assert_eq!(lab.take(), "", "{overlap:?}");
    }
}

#[test]
fn runs_that_were_missed_are_made_up_for_once_or_left_out() {
    for (misfire, expected) in
        [(None, "misfire succeeded 12:00 0"), (Some("skip"), "schedule missed 12:00")]
    {
        let mut lab = lab();
        let options = json!({ "schedule_options": { "misfire": misfire } });
        create(&mut lab, &["exit", "0"], options);
        // A run that is recorded has its progress with it.
        pass(&mut lab, 30);
        until(&lab, "schedule succeeded 11:00 0");
        pass(&mut lab, 1);
        lab.kill();
        lab.settings.clock.advance(Duration::from_secs(5 * 3600));
        lab.restart();
        let expected = format!("schedule succeeded 11:00 0, {expected}");
        until(&lab, &expected);
        pass(&mut lab, 58);
        assert_eq!(shown(&lab), expected, "all of them at once");
        pass(&mut lab, 1);
        until(&lab, &format!("{expected}, schedule succeeded 17:00 0"));
    }
}

#[test]
fn a_clock_that_is_set_back_repeats_no_run_and_one_set_far_back_begins_again() {
    let mut lab = lab();
    create(&mut lab, &["exit", "0"], json!({}));
    pass(&mut lab, 30);
    until(&lab, "schedule succeeded 11:00 0");
    // By two hours, while no daemon runs: nothing until 12:00.
    lab.kill();
    lab.settings.clock = rt::Clock::manual((BEGIN - 5400) * 1_000_000_000);
    lab.restart();
    lab.script("wait m1 stopped");
    pass(&mut lab, 179);
    assert_eq!(shown(&lab), "schedule succeeded 11:00 0");
    pass(&mut lab, 1);
    until(&lab, "schedule succeeded 11:00 0, schedule succeeded 12:00 0");
    // By a month: the next full hour counts.
    lab.kill();
    lab.settings.clock = rt::Clock::manual((BEGIN - 30 * 86_400) * 1_000_000_000);
    lab.restart();
    lab.script("wait m1 stopped");
    pass(&mut lab, 30);
    until(
        &lab,
        "schedule succeeded 11:00 0, schedule succeeded 12:00 0, schedule succeeded 11:00 0",
    );
}

#[test]
fn a_run_that_the_host_cannot_take_is_refused_and_not_tried_again() {
    let settings = Settings { memory_mib: 400, paused: true, ..Settings::default() };
    let clock = rt::Clock::manual(BEGIN * 1_000_000_000);
    let mut lab = Lab::new(Settings { clock, ..settings });
    create(&mut lab, &["exit", "0"], json!({}));
    lab.script("create m2 serve; wait m2 started");
    pass(&mut lab, 30);
    until(&lab, "schedule refused 11:00");
    let reason = runs(&lab).remove(0).reason.unwrap();
    assert!(reason.contains("MiB"), "{reason}");
    lab.script("destroy m2 --force; wait m2 destroyed");
    pass(&mut lab, 59);
    assert_eq!(shown(&lab), "schedule refused 11:00");
    pass(&mut lab, 1);
    until(&lab, "schedule refused 11:00, schedule succeeded 12:00 0");
}

#[test]
fn a_daemon_that_is_killed_at_a_run_neither_repeats_nor_loses_it() {
    for step in 0..40 {
        let mut lab = lab();
        create(&mut lab, &["serve"], json!({}));
        pass(&mut lab, 29);
        lab.settings.clock.advance(Duration::from_secs(60));
        lab.run(async {
            tokio::time::advance(Duration::from_secs(60)).await;
            for _ in 0..step * 4 {
                tokio::task::yield_now().await;
            }
        });
        lab.kill();
        lab.restart();
        // Either it was recorded and is one run, or it comes now.
        let begun = |lab: &Lab| !runs(lab).is_empty();
        for _ in 0..2_000 {
            if begun(&lab) {
                break;
            }
            lab.run(tokio::task::yield_now());
        }
        pass(&mut lab, 2);
        let found = shown(&lab);
        assert_eq!(found, "schedule running 11:00", "killed at {step}");
        lab.script("wait m1 started");
        assert_eq!(lab.take(), "", "killed at {step}");
    }
}

#[test]
fn a_repeated_call_for_a_run_gets_its_run_and_a_refused_one_is_a_new_try() {
    let mut lab = lab();
    create(&mut lab, &["exit", "0"], json!({}));
    let first = run_with(&lab, user().keyed("k")).unwrap();
    until(&lab, "manual succeeded 10:30 0");
    lab.script("wait m1 stopped");
    run_with(&lab, user().keyed("other")).unwrap();
    until(&lab, "manual succeeded 10:30 0, manual succeeded 10:30 0");
    lab.kill();
    lab.restart();
    let again = run_with(&lab, user().keyed("k")).unwrap();
    assert_eq!((again.id, again.status.as_str()), (first.id, "succeeded"));
    assert_eq!(runs(&lab).len(), 2);
    // A call that is refused leaves no key.
    lab.script("update m1 serve --schedule=hourly --skip-launch; wait m1 stopped");
    run_now(&lab).unwrap();
    lab.script("wait m1 started");
    assert!(run_with(&lab, user().keyed("refused")).is_err(), "a run is under way");
    lab.script("stop m1; wait m1 stopped");
    run_with(&lab, user().keyed("refused")).unwrap();
    lab.script("wait m1 started");
    assert_eq!(runs(&lab).len(), 4);
    assert_eq!(lab.take(), "");
}

#[test]
fn a_run_by_a_call_respects_leases_and_is_its_callers_start() {
    for overlap in ["skip", "queue", "replace"] {
        let mut lab = lab();
        let options = json!({ "schedule_options": { "overlap": overlap } });
        create(&mut lab, &["serve"], options);
        let (worker, id) = (lab.worker(), lab.id("m1"));
        let wanted = || AcquireLease {
            nonce: "a".into(),
            owner: "a".into(),
            description: None,
            ttl_ms: 3_600_000,
        };
        lab.run(async { worker.acquire_lease(user(), id, wanted()).await }).unwrap();
        let holder = || CallContext { lease_nonce: Some("a".into()), ..user() };
        let refused = run_now(&lab);
        assert!(matches!(refused, Err(HostError::Leased { .. })), "{refused:?}");
        assert_eq!(shown(&lab), "", "nothing is recorded");
        run_with(&lab, holder()).unwrap();
        lab.script("wait m1 started");
        let event =
            lab.machine(id).events.iter().rev().find(|event| event.kind == "start").cloned();
        assert_eq!(event.unwrap().source, "user");
        let refused = run_now(&lab);
        assert!(matches!(refused, Err(HostError::Leased { .. })), "{overlap}: {refused:?}");
        assert_eq!(run_with(&lab, holder()).is_ok(), overlap != "skip");
        drop(worker);
        assert_eq!(lab.take(), "");
    }
}

#[test]
fn open_runs_end_with_the_schedule() {
    let mut lab = lab();
    create(&mut lab, &["serve"], json!({ "schedule_options": { "overlap": "queue" } }));
    run_now(&lab).unwrap();
    lab.script("wait m1 started");
    run_now(&lab).unwrap();
    until(&lab, "manual running 10:30, manual queued 10:30");
    lab.script("update m1 serve --skip-launch; wait m1 stopped");
    until(&lab, "manual stopped 10:30, manual skipped 10:30");
}
