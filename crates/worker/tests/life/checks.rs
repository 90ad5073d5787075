//! Health checks: statuses, routing, liveness, and what ends or pauses them.

use crate::apps::{App, Apps};
use crate::daemon::Settings;
use crate::lab::{Lab, user};
use expect_test::expect;
use host_api::{Checks, HealthStatus, Machines, ServiceHealth};
use serde_json::{Value, json};
use std::time::Duration;
use wire::machines::{CheckReport, MachineConfig};

/// A lab on paused time whose apps are `Apps`.
fn lab() -> (Lab, Apps) {
    let apps = Apps::default();
    let clock = rt::Clock::manual(1_700_000_000_000_000_000);
    let settings =
        Settings { paused: true, clock, apps: Some(apps.clone()), ..Settings::default() };
    (Lab::new(settings), apps)
}

/// Creates `m1` with what `more` adds to its config, and waits until it runs.
fn create(lab: &mut Lab, more: Value) {
    let mut create = lab.creation("m1", &["serve", "8080"]);
    let mut config = serde_json::to_value(&create.config).unwrap();
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    create.config = serde_json::from_value::<MachineConfig>(config).unwrap();
    let worker = lab.worker();
    lab.run(async { worker.create(user(), create).await }).unwrap();
    lab.script("wait m1 started");
}

fn service(check: Value) -> Value {
    json!({ "services": [{ "internal_port": 8080, "checks": [check] }] })
}

fn reports(lab: &Lab) -> Vec<CheckReport> {
    let (worker, id) = (lab.worker(), lab.id("m1"));
    lab.run(async { worker.checks(user(), id).await }).unwrap()
}

/// `name status (output)` per check.
fn statuses(lab: &Lab) -> String {
    let machine = lab.machine(lab.id("m1"));
    let line = |c: &wire::machines::CheckStatus| format!("{} {} ({})", c.name, c.status, c.output);
    machine.checks.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Lets the daemon run, without time passing, until `is` holds.
fn until(lab: &Lab, what: &str, is: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is() {
            return;
        }
        lab.run(async {
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
        });
    }
    panic!("not reached: {what}; {}", statuses(lab));
}

fn until_status(lab: &Lab, status: &str) {
    until(lab, status, || reports(lab).iter().all(|report| report.status == status));
}

fn health(lab: &Lab) -> Vec<ServiceHealth> {
    lab.subscribe().snapshot.routes[0].health.clone()
}

/// Lets time pass in steps, so that each run of a check has its turn.
fn pass(lab: &mut Lab, seconds: u64) {
    for _ in 0..seconds * 2 {
        lab.script("tick 500ms");
        lab.run(async {
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
        });
    }
}

fn only(status: HealthStatus) -> Vec<ServiceHealth> {
    vec![ServiceHealth { port: 8080, status }]
}

#[test]
fn a_service_check_decides_routing_and_its_changes_are_recorded() {
    let (mut lab, apps) = lab();
    create(
        &mut lab,
        service(
            json!({ "type": "http", "path": "/health", "interval": "10s", "grace_period": "3s",
                        "headers": [{ "name": "Authorization", "values": ["s3cret"] }] }),
        ),
    );
    until(&lab, "a first run", || apps.connects() > 0);
    // Within the grace period a failure is no verdict.
    assert_eq!(health(&lab), only(HealthStatus::Unproven));
    assert!(statuses(&lab).starts_with("servicecheck-00-http-8080 warning (connect to"));
    apps.set(8080, App::http("200 OK", "fine\n"));
    pass(&mut lab, 1);
    until_status(&lab, "passing");
    until(&lab, "the route", || health(&lab) == only(HealthStatus::Passing));
    assert_eq!(statuses(&lab), "servicecheck-00-http-8080 passing (fine)");
    let request = apps.newest_request();
    assert!(request.starts_with("GET /health HTTP/1.1\r\nhost: 172.30."), "{request}");
    assert!(request.contains("authorization: s3cret\r\n"), "{request}");
    let since = reports(&lab)[0].updated_at.clone();
    apps.set(8080, App::http("500 Internal Server Error", "no\x1bdatabase"));
    pass(&mut lab, 12);
    until_status(&lab, "critical");
    until(&lab, "the route", || health(&lab) == only(HealthStatus::Failing));
    let report = reports(&lab).remove(0);
    assert_ne!(report.updated_at, since, "the status has changed");
    let since = report.updated_at.clone();
    let run = report.last_run.unwrap();
    assert!(!run.passed && run.request.contains("authorization: (hidden)"), "{run:?}");
    assert!(!run.request.contains("s3cret"));
    assert!(
        run.response
            .starts_with("HTTP/1.1 500 Internal Server Error\ncontent-length: 11\n\nno database")
    );
    pass(&mut lab, 12);
    assert_eq!(reports(&lab)[0].updated_at, since, "only the last run has");
    apps.set(8080, App::http("204 No Content", ""));
    pass(&mut lab, 12);
    until_status(&lab, "passing");
    until(&lab, "the event", || lab.machine(lab.id("m1")).events[0].kind == "check");
    lab.script("logs m1; events m1");
    expect![[r#"
        [runner] Pulling container image app
        [runner] Successfully prepared image app (0.0s)
        [health] Health check 'servicecheck-00-http-8080' on port 8080 is now passing.
        [health] Health check 'servicecheck-00-http-8080' on port 8080 has failed. Your app is not responding properly. (HTTP/1.1 500 Internal Server Error: no database)
        [health] Health check 'servicecheck-00-http-8080' on port 8080 is now passing.
        check by flyd -> started (servicecheck-00-http-8080: critical -> passing (HTTP/1.1 204 No Content))
        check by flyd -> started (servicecheck-00-http-8080: passing -> critical (HTTP/1.1 500 Internal Server Error: no database))
        start by flyd -> started
        launch by user -> created
    "#]]
    .assert_eq(&lab.take());
}

#[test]
fn checks_that_hang_or_flood_end_and_hold_up_no_other() {
    let (mut lab, apps) = lab();
    apps.set(1, App::Hangs);
    apps.set(2, App::Floods);
    apps.set(3, App::http("302 Found", ""));
    let check = |kind: &str, port: u16| json!({ "type": kind, "port": port, "interval": "5s", "timeout": "2s", "grace_period": 0 });
    create(
        &mut lab,
        json!({ "checks": { "hangs": check("http", 1), "floods": check("http", 2),
                            "moved": check("http", 3), "open": check("tcp", 1),
                            "shut": check("tcp", 4) } }),
    );
    pass(&mut lab, 3);
    let expected = [
        ("floods", "passing", "xxxx"),
        ("hangs", "critical", "no answer within the timeout"),
        ("moved", "critical", "HTTP/1.1 302 Found"),
        ("open", "passing", "connected to"),
        ("shut", "critical", "connection refused"),
    ];
    until(&lab, "a verdict of each", || {
        reports(&lab).iter().zip(expected).all(|(report, want)| report.status == want.1)
    });
    for (report, (name, _, output)) in reports(&lab).iter().zip(expected) {
        assert_eq!(report.name, name);
        assert!(report.output.contains(output), "{report:?}");
        let run = report.last_run.as_ref().unwrap();
        assert!(report.output.len() <= 1024 && run.response.len() <= 4096, "{name}");
    }
    let hung = reports(&lab).remove(1).last_run.unwrap();
    assert!((2000.0..2600.0).contains(&hung.took_ms), "{hung:?}");
    assert_eq!(health(&lab), [], "checks of the machine do not decide routing");
}

#[test]
fn a_machine_that_fails_its_liveness_check_is_restarted_by_its_policy() {
    let (mut lab, apps) = lab();
    let alive = json!({ "type": "tcp", "port": 8080, "kind": "liveness", "interval": "2s",
                        "grace_period": "1s", "failure_threshold": 2 });
    create(
        &mut lab,
        json!({ "checks": { "alive": alive }, "restart": { "policy": "on-failure", "max_retries": 1 } }),
    );
    apps.set(8080, App::Hangs);
    pass(&mut lab, 1);
    until_status(&lab, "passing");
    apps.unset(8080);
    pass(&mut lab, 6);
    lab.script("exits m1 1; wait m1 started");
    until_status(&lab, "warning");
    // It fails again: its one retry is used up.
    pass(&mut lab, 6);
    lab.script("exits m1 2; wait m1 stopped; events m1");
    expect![[r#"
        exit by flyd -> stopped code=0 requested
        stop by flyd -> stopping (liveness check alive failed: connect to 172.30.0.2:8080: connection refused; it failed again after 1 restarts)
        check by flyd -> started (alive: warning -> critical (connect to 172.30.0.2:8080: connection refused))
        start by flyd -> started
        exit by flyd -> restarting code=0 requested restarting
        restart by flyd -> restarting (liveness check alive failed: connect to 172.30.0.2:8080: connection refused)
        check by flyd -> started (alive: passing -> critical (connect to 172.30.0.2:8080: connection refused))
        start by flyd -> started
        launch by user -> created
    "#]]
    .assert_eq(&lab.take());
    until(&lab, "the pause", || statuses(&lab) == "alive warning (the machine hasn't started)");
    let connects = apps.connects();
    pass(&mut lab, 5);
    assert_eq!(apps.connects(), connects, "a machine that is down is not checked");
}

#[test]
fn the_pause_of_the_restart_policy_holds_between_liveness_restarts() {
    let (mut lab, _apps) = lab();
    let alive = json!({ "type": "tcp", "port": 8080, "kind": "liveness", "interval": "2s",
                        "timeout": "1s", "grace_period": 0, "failure_threshold": 1 });
    create(&mut lab, json!({ "checks": { "alive": alive }, "restart": { "policy": "always" } }));
    // The first restart is at once, the second after half a second.
    lab.script("exits m1 1; wait m1 started; exits m1 2");
    let state = || lab.machine(lab.id("m1")).state;
    until(&lab, "the pause", || state() == "restarting");
    lab.run(async {
        for _ in 0..256 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(state(), "restarting");
    lab.script("tick 600ms; wait m1 starting|started");
    assert_eq!(lab.take(), "");
}

#[test]
fn a_suspended_machine_and_a_new_daemon_begin_without_a_verdict() {
    let (mut lab, apps) = lab();
    create(&mut lab, service(json!({ "type": "tcp", "interval": "5s", "grace_period": "2s" })));
    pass(&mut lab, 6);
    until_status(&lab, "critical");
    lab.script("suspend m1; wait m1 suspended");
    until(&lab, "the pause", || statuses(&lab).ends_with("warning (the machine is suspended)"));
    let connects = apps.connects();
    pass(&mut lab, 20);
    assert_eq!(apps.connects(), connects);
    apps.set(8080, App::Hangs);
    lab.script("start m1; wait m1 started");
    until_status(&lab, "passing");
    assert_eq!(health(&lab), only(HealthStatus::Passing));
    // Long ago, as far as the next daemon is concerned.
    pass(&mut lab, 3);
    lab.kill();
    lab.restart();
    lab.script("wait m1 started");
    assert_eq!(health(&lab), only(HealthStatus::Unproven), "unknown, but not failing");
    assert!(statuses(&lab).ends_with("warning (waiting for status update)"));
    pass(&mut lab, 3);
    until_status(&lab, "passing");
    lab.script("logs m1");
    let logs = lab.take();
    assert_eq!(logs.matches("has failed").count(), 1, "{logs}");
}

#[test]
fn a_script_check_runs_in_the_guest() {
    let (mut lab, _apps) = lab();
    let within = |timeout: &str, words: Value| {
        json!({ "type": "script", "command": words, "interval": "1m", "timeout": timeout,
                "grace_period": 0 })
    };
    let script = |words: Value| within("30s", words);
    create(
        &mut lab,
        json!({ "checks": { "good": script(json!(["echo", "leader"])), "bad": script(json!(["false"])),
                            "lost": script(json!(["no-such-program"])),
                            "slow": within("1s", json!(["sleep"])), "wordy": script(json!(["spew", "5000"])) } }),
    );
    let decided = |lab: &Lab| reports(lab).iter().filter(|r| r.status != "warning").count();
    until(&lab, "the end of those that end", || decided(&lab) == 4);
    pass(&mut lab, 2);
    until(&lab, "a verdict of each", || decided(&lab) == 5);
    let wordy = reports(&lab).pop().unwrap();
    assert_eq!((wordy.status.as_str(), wordy.output.len()), ("passing", 1024));
    let rest = statuses(&lab);
    assert_eq!(
        rest.split("; wordy").next().unwrap(),
        "bad critical (exit code 1); good passing (leader); lost critical (no-such-program: not \
         found); slow critical (the command did not end within 1s)"
    );
    // None of them is left in the guest as a session.
    lab.script("suspend m1; wait m1 suspended; start m1; wait m1 started");
    let passes = |lab: &Lab| reports(lab).iter().any(|report| report.status == "passing");
    // A guest that has no session yet is asked again after a moment.
    for _ in 0..20 {
        if passes(&lab) {
            break;
        }
        pass(&mut lab, 1);
    }
    until(&lab, "checks after the resume", || passes(&lab));
    assert_eq!(lab.take(), "m1 resumes\n");
}

#[test]
fn a_check_that_flaps_fills_neither_events_nor_database() {
    let (mut lab, apps) = lab();
    create(&mut lab, service(json!({ "type": "tcp", "interval": "1s", "grace_period": 0 })));
    for round in 0..30 {
        match round % 2 {
            0 => apps.set(8080, App::Hangs),
            _ => apps.unset(8080),
        }
        pass(&mut lab, 2);
    }
    let (worker, id) = (lab.worker(), lab.id("m1"));
    let all = lab.run(async { worker.events(user(), id, 50, None).await }).unwrap();
    let checks = all.iter().filter(|event| event.kind == "check").count();
    assert_eq!(checks, 10, "ten in ten minutes");
    let shown = lab.machine(lab.id("m1")).events;
    assert!(shown.iter().any(|event| event.kind == "start"), "{shown:?}");
    drop(worker);
    lab.settings.clock.advance(Duration::from_secs(1));
    lab.script("logs m1");
    assert!(lab.take().matches("[health]").count() > 20, "each change is in the log");
}

#[test]
fn checks_that_hang_hold_few_places_and_the_grace_period_does_not_wait_for_one() {
    let (mut lab, apps) = lab();
    apps.set(8080, App::Hangs);
    let check = |n: u32| {
        json!({ "type": "http", "path": format!("/{n}"), "interval": "60s", "timeout": "20s",
                "grace_period": "10s" })
    };
    let checks: Vec<Value> = (0..5).map(check).collect();
    create(&mut lab, json!({ "services": [{ "internal_port": 8080, "checks": checks }] }));
    until(&lab, "four places", || apps.connects() == 4);
    pass(&mut lab, 15);
    assert_eq!(apps.connects(), 4, "the fifth waits");
    // Its run begins after the grace period: its failure is a verdict.
    apps.unset(8080);
    pass(&mut lab, 7);
    until(&lab, "the fifth run", || apps.connects() >= 5);
    let critical = || reports(&lab).iter().filter(|report| report.status == "critical").count();
    until(&lab, "a verdict", || critical() == 1);
}
