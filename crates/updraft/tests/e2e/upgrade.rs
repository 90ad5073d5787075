//! An installation of an earlier version is taken over: its databases, its
//! running, stopped and suspended machines, their addresses and taps.
//!
//! Run by `make test-upgrade`, which builds the earlier version and names its
//! program in `UPDRAFT_OLD_BIN`.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("machines_of_an_earlier_version_are_taken_over", take_over),
    ("a_reused_name_of_an_earlier_version_gets_no_old_data", reused_name),
];

/// The program of the earlier version, if there is one to test with.
pub(crate) fn old_program() -> Option<std::ffi::OsString> {
    std::env::var_os("UPDRAFT_OLD_BIN")
}

fn old_platform(cx: &Context, name: &str) -> Result<Platform> {
    let program = old_program().context("UPDRAFT_OLD_BIN names the earlier version")?;
    cx.own_with(name, &[], &program)
}

fn boot_id(app: &App<'_>, id: &str) -> Result<String> {
    app.exec(id, &["cat", "/proc/sys/kernel/random/boot_id"]).map(|(_, out)| out)
}

fn web() -> Value {
    let serve = "mkdir /www; echo here > /www/index.html; exec httpd -f -p 8080 -h /www";
    json!({
        "init": {"exec": ["sh", "-c", serve]},
        "services": [{
            "protocol": "tcp",
            "internal_port": 8080,
            "autostart": true,
            "ports": [{"port": 80, "handlers": ["http"]}],
        }],
    })
}

fn take_over(cx: &Context) -> Outcome {
    let platform = old_platform(cx, "upgrade")?;
    let app = platform.app("upgrade")?;
    let runs = app.run("runs", web())?;
    let stopped = app.run("stopped", web())?;
    let asleep = app.run("asleep", web())?;
    app.post(&stopped, "/stop", json!({}))?;
    app.wait(&stopped, "stopped")?;
    app.exec(&asleep, &["sh", "-c", "echo kept > /kept; sync"])?;
    app.post(&asleep, "/suspend", json!({}))?;
    app.wait(&asleep, "suspended")?;
    let address = |id: &str| -> Result<Value> { Ok(app.get(id, "")?["private_ip"].clone()) };
    let ids = [&runs, &stopped, &asleep];
    let before: Vec<Value> = ids.iter().map(|id| address(id)).collect::<Result<_>>()?;
    let boot = boot_id(&app, &runs)?;
    // Both ways in which a daemon ends; the newer one comes after either.
    platform.kill()?;
    platform.switch_to_new()?;
    platform.up()?;
    ensure!(app.state(&runs)? == "started", "{}", app.story(&runs));
    ensure!(boot_id(&app, &runs)? == boot, "the same boot keeps running");
    let after: Vec<Value> = ids.iter().map(|id| address(id)).collect::<Result<_>>()?;
    ensure!(before == after, "addresses stay for life: {before:?}, now {after:?}");
    let served = platform.get("upgrade", "/")?.text()?;
    ensure!(
        served == "here\n",
        "the edge reaches a VM that the earlier version started: {served:?}"
    );
    app.post(&asleep, "/start", json!({}))?;
    app.wait(&asleep, "started")?;
    let (_, kept) = app.exec(&asleep, &["cat", "/kept"])?;
    // Its memory does not fit another init: it boots with its disk, and an event records that.
    ensure!(
        kept == "kept\n",
        "a suspended machine keeps its disk: {kept:?}\n{}",
        app.story(&asleep)
    );
    app.post(&stopped, "/start", json!({}))?;
    app.wait(&stopped, "started")?;
    // And what is taken over can be ended as everything else.
    app.post(&runs, "/stop", json!({}))?;
    app.wait(&runs, "stopped")?;
    let old_lines = app.logs()?;
    ensure!(!old_lines.is_empty(), "the log of before is still read");
    Ok(())
}

fn reused_name(cx: &Context) -> Outcome {
    let platform = old_platform(cx, "reuse")?;
    let old = platform.app("reuse")?;
    let id = old.run("one", json!({"init": {"exec": ["sh", "-c", "echo secret; sleep inf"]}}))?;
    old.logs_until(&id, "secret\n")?;
    drop(old);
    platform.kill()?;
    platform.switch_to_new()?;
    platform.up()?;
    let new = platform.app("reuse")?;
    let machines = platform.ok(reqwest::Method::GET, "/apps/reuse/machines", None)?;
    ensure!(machines == json!([]), "{machines}");
    let deleted =
        platform.ok(reqwest::Method::GET, "/apps/reuse/machines?include_deleted=true", None)?;
    ensure!(deleted == json!([]), "{deleted}");
    let lines = new.logs()?;
    ensure!(!lines.contains("secret"), "{lines}");
    Ok(())
}
