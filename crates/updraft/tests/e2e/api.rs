//! The life of a machine over the plain Machines API.

use super::Test;
use crate::platform::{Context, Outcome};
use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_machine_lives_from_create_to_destroy", whole_life),
    ("an_update_replaces_the_instance", update),
    ("policies_restart_or_leave_down", policies),
    ("ten_machines_run_side_by_side", ten),
];

fn whole_life(cx: &Context) -> Outcome {
    let app = cx.shared().app("life")?;
    let id = app.create("one", json!({"env": {"GREETING": "hi"}}))?;
    app.wait(&id, "started")?;
    let machine = app.get("one", "")?;
    ensure!(machine["id"] == id.as_str(), "names are accepted for ids: {machine}");
    ensure!(machine["host_status"] == "ok" && machine["isolation"] == "tcg", "{machine}");
    ensure!(machine["config"]["guest"]["memory_mb"] == 256, "guest is filled in: {machine}");
    ensure!(
        machine["private_ip"].as_str().is_some_and(|ip| ip.split(':').count() == 8),
        "{machine}"
    );
    let (code, out) = app.exec(&id, &["sh", "-c", "echo $GREETING $FLY_APP_NAME; exit 3"])?;
    ensure!((code, out.as_str()) == (3, "hi life\n"), "{code} {out}");
    let boot = |id| app.exec(id, &["cat", "/proc/sys/kernel/random/boot_id"]).map(|(_, out)| out);
    let first = boot(&id)?;
    app.exec(&id, &["touch", "/written"])?;
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let exit = app.event(&id, "exit")?["request"]["exit_event"].clone();
    ensure!(exit["requested_stop"] == true && exit["guest_signal"] == 2, "{exit}");
    let started = app.post(&id, "/start", json!({}))?;
    ensure!(started["previous_state"] == "stopped", "{started}");
    app.wait(&id, "started")?;
    ensure!(boot(&id)? != first, "a start is a new boot");
    let (code, _) = app.exec(&id, &["test", "-e", "/written"])?;
    ensure!(code == 1, "the root is fresh after a start");
    app.post(&id, "/restart", json!({}))?;
    app.wait(&id, "started")?;
    let (status, answer) = cx.shared().call(Method::DELETE, &app.path(&id, ""), None)?;
    ensure!(status.is_client_error(), "a running machine is not deleted: {status} {answer}");
    cx.shared().ok(Method::DELETE, &app.path(&id, "?force=true"), None)?;
    app.wait(&id, "destroyed")?;
    let list = cx.shared().ok(Method::GET, "/apps/life/machines", None)?;
    ensure!(
        list.as_array().is_some_and(Vec::is_empty),
        "destroyed machines are not listed: {list}"
    );
    ensure!(app.state(&id)? == "destroyed", "but they can be asked for");
    Ok(())
}

fn update(cx: &Context) -> Outcome {
    let app = cx.shared().app("update")?;
    let id = app.run("one", json!({"env": {"V": "1"}}))?;
    let before = app.get(&id, "")?["instance_id"].clone();
    let config = json!({"image": "busybox:latest", "env": {"V": "2"}});
    let stale = json!({"config": config, "current_version": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    let (status, answer) = cx.shared().call(Method::POST, &app.path(&id, ""), Some(stale))?;
    ensure!(status.as_u16() == 412, "stale versions are refused: {status} {answer}");
    let after = app.post(&id, "", json!({"config": config, "current_version": before}))?;
    ensure!(after["instance_id"] != before && after["state"] != "started", "{after}");
    app.wait(&id, "started")?;
    let (_, out) = app.exec(&id, &["sh", "-c", "echo $V"])?;
    ensure!(out == "2\n", "the new config runs: {out}");
    let versions = app.get(&id, "/versions")?;
    ensure!(versions.as_array().is_some_and(|all| all.len() == 2), "{versions}");
    app.post(&id, "/metadata/role", json!({"value": "web"}))?;
    let machine = app.get(&id, "")?;
    ensure!(machine["instance_id"] == after["instance_id"], "labels make no version");
    ensure!(machine["config"]["metadata"]["role"] == "web", "{machine}");
    Ok(())
}

fn policies(cx: &Context) -> Outcome {
    let app = cx.shared().app("policies")?;
    let exits = |code: u8, restart: serde_json::Value| json!({"init": {"exec": ["sh", "-c", format!("exit {code}")]}, "restart": restart});
    let done = app.create("done", exits(0, json!({"policy": "on-failure"})))?;
    let fails = app.create("fails", exits(7, json!({"policy": "on-failure", "max_retries": 1})))?;
    app.wait(&done, "stopped")?;
    app.wait(&fails, "stopped")?;
    let exit = app.event(&fails, "exit")?;
    ensure!(exit["request"]["exit_event"]["exit_code"] == 7, "{exit}");
    ensure!(exit["request"]["restart_count"] == 1, "{exit}");
    let mut gone = exits(0, json!({"policy": "no"}));
    gone["auto_destroy"] = json!(true);
    let gone = app.create("gone", gone)?;
    app.wait(&gone, "destroyed")
}

fn ten(cx: &Context) -> Outcome {
    let app = cx.shared().app("ten")?;
    let ids =
        (0..10).map(|n| app.create(&format!("m{n}"), json!({}))).collect::<Result<Vec<_>, _>>()?;
    for id in &ids {
        app.wait(id, "started")?;
    }
    for (n, id) in ids.iter().enumerate() {
        let (_, out) = app.exec(id, &["hostname"])?;
        ensure!(out.trim() == id, "machine {n} is itself: {out}");
    }
    Ok(())
}
