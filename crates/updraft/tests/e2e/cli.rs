//! The command line against a real platform.

use super::Test;
use crate::platform::{Context, Outcome};
use anyhow::ensure;
use serde_json::json;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_commands_of_a_first_hour", first_hour),
    ("errors_name_cause_and_hint", errors),
    ("down_stops_machines_gracefully_and_up_starts_them_again", graceful_down),
];

fn graceful_down(cx: &Context) -> Outcome {
    let platform = cx.own("graceful", &[])?;
    let app = platform.app("graceful")?;
    let script = "trap 'echo got INT; exit 0' INT; echo ready; while :; do sleep 0.2; done";
    let id = app.run("one", json!({"init": {"exec": ["/bin/sh", "-c", script]}}))?;
    let stopped = app.run("two", json!({}))?;
    app.post(&stopped, "/stop", json!({"signal": "SIGKILL"}))?;
    app.wait(&stopped, "stopped")?;
    app.logs_until(&id, "ready\n")?;
    platform.down()?;
    platform.up()?;
    app.wait(&id, "started")?;
    let exit = &app.event(&id, "exit")?["request"]["exit_event"];
    ensure!(exit["requested_stop"] == true && exit["exit_code"] == 0, "{exit}");
    ensure!(app.logs()?.contains("got INT"), "{}", app.logs()?);
    ensure!(app.state(&stopped)? == "stopped", "what was stopped before stays so");
    ensure!(!platform.data().join("restart-list.json").exists(), "the list is used once");
    Ok(())
}

fn first_hour(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let cli = |args: &[&str]| platform.cli(args);
    cli(&["apps", "create", "hour"])?;
    ensure!(cli(&["apps", "list", "-q"])?.lines().any(|line| line == "hour"));
    let out = cli(&[
        "machine",
        "run",
        "busybox:latest",
        "-a",
        "hour",
        "--name",
        "web",
        "-p",
        "80:8080/tcp:http",
    ])?;
    ensure!(out.contains("Machine ID:"), "{out}");
    let id = cli(&["machine", "list", "-a", "hour", "-q"])?.trim().to_owned();
    ensure!(id.len() == 14, "an id: {id}");
    ensure!(cli(&["machine", "status", "web", "-a", "hour"])?.contains("started"));
    ensure!(cli(&["machine", "exec", &id, "echo hi", "-a", "hour"])? == "hi\n");
    let (code, _, _) = platform.cli_raw(&["machine", "exec", &id, "false", "-a", "hour"])?;
    ensure!(code == 1, "the exit code is the command's: {code}");
    ensure!(cli(&["logs", "-a", "hour", "-n"])?.contains("serving"));
    ensure!(cli(&["status", "-a", "hour"])?.contains(&id));
    cli(&["machine", "update", &id, "-a", "hour", "-e", "X=1", "-y"])?;
    ensure!(cli(&["machine", "exec", &id, "env", "-a", "hour"])?.contains("X=1"));
    let second = cli(&["machine", "clone", "web", "-a", "hour", "--name", "second"])?;
    let second = second.trim();
    ensure!(cli(&["machine", "exec", second, "env", "-a", "hour"])?.contains("X=1"));
    cli(&["machine", "metadata", "set", second, "role=leader", "-a", "hour"])?;
    let leader = cli(&["machine", "list", "-a", "hour", "-q", "--metadata", "role=leader"])?;
    ensure!(leader.trim() == second, "{leader}");
    ensure!(cli(&["machine", "events", second, "-a", "hour"])?.contains("launch"));
    cli(&["machine", "destroy", second, "-a", "hour", "--force"])?;
    cli(&["machine", "cordon", &id, "-a", "hour"])?;
    cli(&["machine", "uncordon", &id, "-a", "hour"])?;
    cli(&["machine", "restart", &id, "-a", "hour"])?;
    cli(&["machine", "stop", &id, "-a", "hour", "--signal", "SIGKILL", "--wait-timeout", "60s"])?;
    ensure!(cli(&["machine", "list", "-a", "hour"])?.contains("stopped"));
    cli(&["machine", "start", &id, "-a", "hour"])?;
    cli(&["machine", "wait", &id, "-a", "hour", "--state", "started"])?;
    cli(&["machine", "kill", &id, "-a", "hour"])?;
    cli(&["machine", "destroy", &id, "-a", "hour", "--force"])?;
    let images = cli(&["image", "list"])?;
    ensure!(images.contains("busybox:latest"), "{images}");
    cli(&["apps", "destroy", "hour", "-y"])?;
    ensure!(!cli(&["apps", "list", "-q"])?.lines().any(|line| line == "hour"));
    ensure!(cli(&["version"])?.contains(env!("CARGO_PKG_VERSION")));
    Ok(())
}

fn errors(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let (code, out, err) =
        platform.cli_raw(&["machine", "start", "nothing", "-a", "no-such-app"])?;
    ensure!(code != 0 && out.is_empty(), "{code} {out}");
    ensure!(err.contains("Error: ") && err.contains("Could not find App"), "{err}");
    let (code, _, err) =
        platform.cli_raw(&["machine", "run", "no-such-image:1", "-a", "no-such-app"])?;
    ensure!(code != 0 && err.contains("Hint: "), "{code} {err}");
    let (code, _, _) = platform.cli_raw(&["machine", "--no-such-flag"])?;
    ensure!(code == 2, "usage errors end with 2: {code}");
    Ok(())
}
