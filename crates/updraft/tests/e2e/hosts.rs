//! Several processes on one machine: control and edge in one, two workers beside
//! it, each a host with its own data directory, over mutual TLS.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[("two_workers_behind_one_api", two_workers)];

/// `--tls-*` flags with a new certificate for `name`.
fn identity(cx: &Context, dir: &Path, name: &str, roles: &str) -> Result<Vec<String>> {
    let at = dir.display().to_string();
    cx.command(&["certificates", "issue", "--dir", &at, "--name", name, "--roles", roles])?;
    let file = |name: String| dir.join(name).display().to_string();
    Ok(vec![
        "--tls-ca".into(),
        file("ca.pem".into()),
        "--tls-cert".into(),
        file(format!("{name}.pem")),
        "--tls-key".into(),
        file(format!("{name}.key")),
        "--host-name".into(),
        name.into(),
    ])
}

fn worker(cx: &Context, dir: &Path, number: u8, name: &str, region: &str) -> Result<Platform> {
    let (number, pool) = (number.to_string(), format!("10.{}.0.0/16", 200 + number));
    let mut args = identity(cx, dir, name, "worker")?;
    for arg in ["--roles", "worker", "--host-api", "127.0.0.1:0", "--region", region] {
        args.push(arg.into());
    }
    args.extend(["--host-number".into(), number, "--ipv4-pool".into(), pool]);
    Platform::start_plain(&cx.dir(name), &args)
}

fn two_workers(cx: &Context) -> Outcome {
    let certificates = cx.dir("certificates");
    let at = certificates.display().to_string();
    cx.command(&["certificates", "init", "--dir", &at])?;
    let one = worker(cx, &certificates, 1, "one", "ams")?;
    let two = worker(cx, &certificates, 2, "two", "fra")?;
    let peers = format!("1:one={},2:two={}", one.host_api(), two.host_api());
    let mut args = identity(cx, &certificates, "front", "control,edge")?;
    args.extend(["--roles", "control,edge", "--peer", &peers].map(str::to_owned));
    let front = Platform::start_plain(&cx.dir("front"), &args)?;
    let busybox = cx.busybox().display().to_string();
    front.cli(&["image", "import", &busybox, "--name", "busybox:latest"])?;

    let app = front.app("spread")?;
    let serve = "mkdir /www; echo $FLY_REGION > /www/index.html; exec httpd -f -p 8080 -h /www";
    let config = json!({
        "image": "busybox:latest",
        "init": {"exec": ["sh", "-c", serve]},
        "services": [{
            "protocol": "tcp",
            "internal_port": 8080,
            "autostart": true,
            "ports": [{"port": 80, "handlers": ["http"]}],
        }],
    });
    let create = |region: &str| -> Result<String> {
        let body = json!({"region": region, "config": config});
        let machine = front.ok(Method::POST, "/apps/spread/machines", Some(body))?;
        Ok(machine["id"].as_str().context("a machine has an id")?.to_owned())
    };
    let ids = [create("ams")?, create("fra")?];
    ids.iter().try_for_each(|id| app.wait(id, "started"))?;
    let listed = front.ok(Method::GET, "/apps/spread/machines", None)?;
    let mut regions: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|m| m["region"].as_str()).collect();
    regions.sort_unstable();
    ensure!(regions == ["ams", "fra"], "each host has one: {listed}");

    // Exec, logs and the guest's own API go to the host that has the machine.
    for (id, region) in ids.iter().zip(["ams", "fra"]) {
        let (code, out) = app.exec(id, &["sh", "-c", "echo $FLY_REGION"])?;
        ensure!(code == 0 && out.trim() == region, "{region}: {code} {out}");
    }
    // The edge reaches guests on either host, and wakes them there.
    app.post(&ids[0], "/stop", json!({}))?;
    app.wait(&ids[0], "stopped")?;
    ensure!(front.get("spread", "/")?.text()?.trim() == "fra");
    app.post(&ids[1], "/stop", json!({}))?;
    app.wait(&ids[1], "stopped")?;
    let woken = front.get("spread", "/")?;
    ensure!(woken.status().is_success(), "{}", woken.status());

    // A host that is away: its machines are listed from their records.
    app.post(&ids[0], "/start", json!({}))?;
    app.wait(&ids[0], "started")?;
    two.kill()?;
    let partial = front.ok(Method::GET, "/apps/spread/machines", None)?;
    let status = |id: &str| -> Option<Value> {
        let found = partial.as_array()?.iter().find(|machine| machine["id"] == id)?;
        Some(found["host_status"].clone())
    };
    ensure!(status(&ids[0]) == Some(json!("ok")), "{partial}");
    ensure!(status(&ids[1]) == Some(json!("unreachable")), "{partial}");
    ensure!(front.get("spread", "/")?.text()?.trim() == "ams", "the other host keeps serving");
    two.up()?;
    all_reached(&front)?;
    app.post(&ids[1], "/start", json!({}))?;
    app.wait(&ids[1], "started")?;
    killed_at_work(&front, &one, &app)?;
    stopped_in_order(&one, &app)?;
    drop(app);
    front.wait_until_empty()?;
    for platform in [&front, &one, &two] {
        platform.down()?;
        let left = platform.leftovers();
        ensure!(left.is_empty(), "left behind: {left}");
    }
    Ok(())
}

/// Waits until the API reaches the hosts of all machines: for a moment after a host has
/// come back, its calls still fail.
fn all_reached(front: &Platform) -> Outcome {
    front.until("every host answers", || {
        let listed = front.ok(Method::GET, "/apps/spread/machines", None)?;
        Ok(listed.as_array().into_iter().flatten().all(|m| m["host_status"] == "ok"))
    })
}

/// `kill -9` of the worker during a stop and creates, and of the API during creates:
/// each machine is found again, and no VM is without one.
fn killed_at_work(front: &Platform, one: &Platform, app: &App<'_>) -> Outcome {
    let body = json!({"region": "ams", "config": {"image": "busybox:latest"}});
    let create = || front.call(Method::POST, "/apps/spread/machines", Some(body.clone()));
    let stopping = create()?.1["id"].as_str().context("a machine has an id")?.to_owned();
    app.wait(&stopping, "started")?;
    app.post(&stopping, "/stop", json!({}))?;
    one.kill()?;
    one.up()?;
    all_reached(front)?;
    app.wait(&stopping, "stopped")?;
    for (killed, moment) in [(one, 5), (front, 5), (one, 40), (front, 40)] {
        let created = std::thread::scope(|scope| -> Result<Option<String>> {
            let creating = scope.spawn(create);
            // Spread over the whole of the work: this is a moment, not a wait.
            std::thread::sleep(Duration::from_millis(moment));
            killed.kill()?;
            killed.up()?;
            // Its answer may be lost with the process.
            let answer = creating.join().map_err(|_| anyhow::anyhow!("the create panicked"))?;
            Ok(answer.ok().and_then(|(_, answer)| answer["id"].as_str().map(str::to_owned)))
        })?;
        all_reached(front)?;
        if let Some(created) = created {
            app.wait(&created, "started").with_context(|| format!("killed after {moment} ms"))?;
        }
    }
    // Also those whose answers were lost.
    one.until("the machines of the host are listed", || {
        let listed = front.ok(Method::GET, "/apps/spread/machines", None)?.to_string();
        Ok(one.machine_dirs().iter().all(|id| listed.contains(id)))
    })
}

/// `updraft down` of a process that is only a worker gives its machines their signal
/// and their time, and the next `up` starts them again.
fn stopped_in_order(one: &Platform, app: &App<'_>) -> Outcome {
    let wait = "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done";
    let body = json!({"region": "ams", "config": {
        "image": "busybox:latest",
        "init": {"exec": ["sh", "-c", wait]},
    }});
    let machine = app.platform.ok(Method::POST, "/apps/spread/machines", Some(body))?;
    let id = machine["id"].as_str().context("a machine has an id")?.to_owned();
    app.logs_until(&id, "ready\n")?;
    one.down()?;
    ensure!(!one.leftovers().contains("qemu"), "left behind: {}", one.leftovers());
    one.up()?;
    all_reached(app.platform)?;
    app.wait(&id, "started")?;
    let exit = &app.event(&id, "exit")?["request"]["exit_event"];
    ensure!(exit["exit_code"] == 7 && exit["requested_stop"] == true, "{exit}");
    Ok(())
}
