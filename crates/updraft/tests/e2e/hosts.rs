//! Several processes on one machine: control and edge in one, two workers beside
//! it, each a host with its own data directory, over mutual TLS.

use super::Test;
use crate::platform::{Context, Outcome, Platform};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

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
    app.wait(&ids[1], "started").or_else(|_| app.post(&ids[1], "/start", json!({})).map(drop))?;
    app.wait(&ids[1], "started")?;
    let whole = front.ok(Method::GET, "/apps/spread/machines", None)?;
    let ok = whole.as_array().into_iter().flatten().all(|m| m["host_status"] == "ok");
    ensure!(ok, "it is back: {whole}");
    drop(app);
    for platform in [&front, &one, &two] {
        platform.down()?;
        let left = platform.leftovers();
        ensure!(left.is_empty(), "left behind: {left}");
    }
    Ok(())
}
