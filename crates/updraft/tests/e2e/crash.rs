//! The daemon killed at any moment, QEMU killed, the power cut.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform, sh};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_killed_daemon_takes_its_vms_over_again", adopt),
    ("a_daemon_that_is_asked_to_stop_leaves_the_vms", graceful),
    ("after_a_power_cut_what_should_run_runs", power_cut),
    ("a_daemon_killed_at_any_moment_loses_nothing", any_moment),
];

fn boot_id(app: &App<'_>, id: &str) -> Result<String> {
    app.exec(id, &["cat", "/proc/sys/kernel/random/boot_id"]).map(|(_, out)| out)
}

fn adopt(cx: &Context) -> Outcome {
    let platform = cx.own("adopt", &[])?;
    let app = platform.app("adopt")?;
    let id = app.run("one", json!({}))?;
    let logs =
        json!({"init": {"exec": ["sh", "-c", "while sleep 0.1; do echo tick $((n=n+1)); done"]}});
    let ticker = app.run("ticker", logs)?;
    let before = boot_id(&app, &id)?;
    for _ in 0..3 {
        platform.kill()?;
        platform.up()?;
        ensure!(
            app.state(&id)? == "started" && boot_id(&app, &id)? == before,
            "the same boot keeps running"
        );
    }
    ensure!(app.state(&ticker)? == "started");
    // What was logged while no daemon listened is there as well.
    let ticks = app.logs_until(&ticker, "tick 30\n")?;
    let ticks: Vec<u64> =
        ticks.lines().filter_map(|line| line.rsplit_once("tick ")?.1.trim().parse().ok()).collect();
    let gaps = ticks.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
    ensure!(gaps <= 3, "at most what was in flight is lost at each cut: {ticks:?}");
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")
}

fn graceful(cx: &Context) -> Outcome {
    let platform = cx.own("graceful", &[])?;
    let app = platform.app("graceful")?;
    let id = app.run("one", json!({}))?;
    let before = boot_id(&app, &id)?;
    platform.end(Signal::TERM)?;
    ensure!(platform.leftovers().contains(&id), "the VM keeps running");
    platform.up()?;
    ensure!(boot_id(&app, &id)? == before, "and is taken over");
    Ok(())
}

/// All at once: daemon and VMs are gone without a word.
fn power_cut(cx: &Context) -> Outcome {
    let platform = cx.own("cut", &[])?;
    let app = platform.app("cut")?;
    let runs = app.run("runs", json!({}))?;
    let stopped = app.run("stopped", json!({}))?;
    let once = app.run("once", json!({"restart": {"policy": "no"}}))?;
    app.post(&stopped, "/stop", json!({}))?;
    app.wait(&stopped, "stopped")?;
    let before = boot_id(&app, &runs)?;
    platform.kill()?;
    kill_vms(&platform)?;
    platform.up()?;
    app.wait(&runs, "started")?;
    ensure!(boot_id(&app, &runs)? != before, "it was started again");
    ensure!(app.state(&stopped)? == "stopped", "what was stopped stays so");
    app.wait(&once, "stopped")?;
    drop(app);
    platform.wait_until_empty()?;
    platform.down()?;
    ensure!(platform.leftovers().is_empty(), "left behind: {}", platform.leftovers());
    Ok(())
}

fn kill_vms(platform: &Platform) -> Result<()> {
    let data = platform.data();
    sh(&format!("cat {}/vms/*/*/pid | cut -d' ' -f1 | xargs -r kill -9", data.display())).map(drop)
}

/// The daemon is killed again and again, each time a little later after a
/// request, while a machine goes through its life. After each kill the machine
/// gets to where the last acknowledged request wanted it.
fn any_moment(cx: &Context) -> Outcome {
    let platform = cx.own("moments", &[])?;
    let app = platform.app("moments")?;
    let id = app.run("one", json!({}))?;
    let mut after = Duration::from_millis(1);
    for round in 0..8 {
        let (request, state): (Request, &str) = match round % 4 {
            0 => (|app, id| app.post(id, "/stop", json!({"signal": "SIGKILL"})), "stopped"),
            1 => (|app, id| app.post(id, "/start", json!({})), "started"),
            2 => (|app, id| app.post(id, "/restart", json!({})), "started"),
            _ => (update, "started"),
        };
        request(&app, &id)?;
        // Spread over the whole of the work: this is a moment, not a wait.
        std::thread::sleep(after);
        after *= 2;
        platform.kill()?;
        platform.up()?;
        app.wait(&id, state).with_context(|| format!("round {round}, killed after {after:?}"))?;
    }
    let created = app.create("late", json!({}))?;
    platform.kill()?;
    platform.up()?;
    app.wait(&created, "started")?;
    platform.ok(Method::DELETE, &app.path(&created, "?force=true"), None)?;
    platform.kill()?;
    platform.up()?;
    app.wait(&created, "destroyed")?;
    drop(app);
    platform.wait_until_empty()?;
    platform.down()?;
    ensure!(platform.leftovers().is_empty(), "left behind: {}", platform.leftovers());
    Ok(())
}

type Request = fn(&App<'_>, &str) -> Result<Value>;

fn update(app: &App<'_>, id: &str) -> Result<Value> {
    app.post(id, "", json!({"config": {"image": "busybox:latest", "env": {"A": "b"}}}))
}
