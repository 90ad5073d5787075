//! Requests through the edge to real machines.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform, sh};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_sleeping_machine_is_woken_by_a_request", wake),
    ("many_requests_wake_a_machine_once", wake_once),
    ("uploads_and_downloads_pass_whole", bodies),
    ("cordoned_machines_get_nothing", cordon),
    ("fifty_rounds_under_load_fail_no_request", fifty_rounds),
];

/// One service on port 80 to 8080, and what else is given for it.
fn service(more: Value) -> Value {
    let mut service = json!({
        "protocol": "tcp", "internal_port": 8080,
        "ports": [{"port": 80, "handlers": ["http"]}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        service[key] = value.clone();
    }
    json!({"services": [service]})
}

/// The body of a request's answer through the edge, which has to be a success.
pub(crate) fn body(platform: &Platform, app: &str, path: &str) -> Result<String> {
    let response = platform.get(app, path)?;
    let status = response.status();
    let text = response.text()?;
    ensure!(status.is_success(), "{path}: {status} {text}\n{}", platform.log_tail());
    Ok(text)
}

fn wake(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("wake")?;
    let config = service(json!({"autostop": "stop", "autostop_after_seconds": 1}));
    let id = app.run("one", config)?;
    ensure!(body(platform, "wake", "/")? == "hello from busybox\n");
    app.wait(&id, "stopped")?;
    let stop = app.event(&id, "stop")?;
    ensure!(stop["source"] == "proxy", "the edge stopped it: {stop}");
    ensure!(body(platform, "wake", "/cgi-bin/id")?.starts_with(&id), "it answers again");
    let start = app.event(&id, "start")?;
    ensure!(start["stages_ms"]["spawn"].is_number(), "stages are reported: {start}");
    Ok(())
}

fn wake_once(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("crowd")?;
    let id = app.run("one", service(json!({})))?;
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let before = starts(&app, &id)?;
    let answers: Vec<Result<String>> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| body(platform, "crowd", "/cgi-bin/id"));
        let threads: Vec<_> = (0..20).map(|_| ask()).collect();
        threads.into_iter().map(|t| t.join().expect("no request panics")).collect()
    });
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(answers.iter().all(|answer| *answer == answers[0]), "one boot answered: {answers:?}");
    ensure!(starts(&app, &id)? == before + 1, "one start for all");
    Ok(())
}

/// How often a machine has come up.
fn starts(app: &App<'_>, id: &str) -> Result<usize> {
    let events = app.get(id, "/events?limit=50")?;
    let all = events.as_array().context("events are a list")?;
    Ok(all.iter().filter(|e| e["type"] == "start" && e["status"] == "started").count())
}

fn bodies(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("bodies")?;
    let id = app.run("one", service(json!({})))?;
    // The upload wakes the machine: it must not be lost while that happens.
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n * 31 % 251) as u8).collect();
    let client = reqwest::blocking::Client::builder().timeout(None).build()?;
    let url = format!("{}/cgi-bin/echo", platform.edge());
    let response = client.post(url).header("host", "bodies.localhost").body(sent.clone()).send()?;
    ensure!(response.status().is_success(), "{}", response.status());
    ensure!(response.bytes()? == sent, "what was sent comes back");
    Ok(())
}

fn cordon(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("cordon")?;
    let [one, two] = ["one", "two"].map(|name| app.run(name, service(json!({}))));
    let (one, two) = (one?, two?);
    app.post(&one, "/cordon", json!({}))?;
    for _ in 0..10 {
        ensure!(body(platform, "cordon", "/cgi-bin/id")?.starts_with(&two), "only {two} answers");
    }
    app.post(&one, "/uncordon", json!({}))?;
    app.post(&two, "/cordon", json!({}))?;
    ensure!(body(platform, "cordon", "/cgi-bin/id")?.starts_with(&one), "now {one}");
    platform.ok(Method::DELETE, &app.path(&one, "?force=true"), None)?;
    app.wait(&one, "destroyed")?;
    let response = platform.get("cordon", "/")?;
    ensure!(response.status().is_server_error(), "no machine is left: {}", response.status());
    Ok(())
}

/// A machine is stopped and woken fifty times while two clients ask steadily.
/// No request fails, and nothing of the fifty boots is left.
fn fifty_rounds(cx: &Context) -> Outcome {
    const ROUNDS: usize = 50;
    let platform = cx.own("rounds", &[])?;
    let app = platform.app("rounds")?;
    let id = app.run("one", service(json!({})))?;
    body(&platform, "rounds", "/")?;
    let over = AtomicBool::new(false);
    let open = || sh(&format!("ls /proc/{}/fd | wc -l", platform.pid()));
    let before = open()?;
    let (answers, answered) = mpsc::channel();
    let ask = |answers: mpsc::Sender<()>| -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            body(&platform, "rounds", "/")?;
            // The rounds may be over.
            let _ = answers.send(());
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let ask = &ask;
        let start = |answers| scope.spawn(move || ask(answers));
        let clients = [start(answers.clone()), start(answers)];
        let rounds = (0..ROUNDS).try_for_each(|_| -> Result<()> {
            // The answer that ended the last round may be one of the boot before: a
            // stop of a machine that is still down would change nothing.
            app.get(&id, "/wait?state=started&timeout=60")?;
            // It may be up again before the next request.
            let events = app.get(&id, "/events?limit=1")?;
            let newest = events[0]["id"].as_str().context("an event has an id")?.to_owned();
            app.post(&id, "/stop", json!({}))?;
            app.get(&id, &format!("/wait?state=stopped&timeout=60&from_event_id={newest}"))?;
            // A request wakes it again: the round is over when it is answered.
            while answered.try_recv().is_ok() {}
            answered.recv().context("both clients have ended")
        });
        over.store(true, Ordering::Relaxed);
        // A client that failed is the cause of whatever the rounds then saw.
        clients.into_iter().try_for_each(|client| client.join().expect("no client panics"))?;
        rounds
    })?;
    let vms = sh(&format!("ls {}/vms/{id}", platform.data().display()))?;
    ensure!(vms.lines().count() <= 1, "one boot at most is left: {vms}");
    let (before, after) = (before.trim().parse::<i64>()?, open()?.trim().parse::<i64>()?);
    ensure!(after < before + 20, "open files of the daemon: {before}, then {after}");
    drop(app);
    platform.wait_until_empty()?;
    platform.down()?;
    let left = platform.leftovers();
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}
