//! Machines that start from a template, are suspended, and are resumed.

use super::Test;
use super::edge::body as answer;
use crate::platform::{App, Context, Outcome, Platform, sh};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("two_machines_of_a_template_are_two_machines", identity),
    ("an_idle_machine_is_suspended_and_answers_where_it_was", autosuspend),
    ("a_snapshot_is_dropped_by_stop_update_and_damage", dropped),
    ("a_machine_suspends_itself", itself),
    ("rounds_of_suspend_keep_memory_disk_and_connections", rounds),
    ("a_daemon_killed_during_suspend_and_resume_loses_nothing", killed),
    ("thirty_machines_are_woken_at_once", crowd),
];

fn service(more: Value) -> Value {
    let mut service = json!({
        "protocol": "tcp", "internal_port": 8080,
        "ports": [{"port": 80, "handlers": ["http"]}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        service[key] = value.clone();
    }
    json!({"services": [service], "guest": {"cpus": 1, "memory_mb": 256, "cpu_kind": "shared"}})
}

fn shell(app: &App<'_>, id: &str, line: &str) -> Result<String> {
    let (code, out) = app.exec(id, &["sh", "-c", line])?;
    ensure!(code == 0, "{line}: {code} {out}\n{}", app.story(id));
    Ok(out)
}

/// Waits until machines of the usual size begin from a template.
pub(crate) fn with_template(platform: &Platform) -> Outcome {
    let begun = std::time::Instant::now();
    loop {
        let hosts = platform.ok(Method::GET, "/platform/hosts", None)?;
        if hosts[0]["templates"].as_array().is_some_and(|all| all.contains(&json!("1x256"))) {
            return Ok(());
        }
        ensure!(begun.elapsed().as_secs() < 120, "no template: {hosts}\n{}", platform.log_tail());
        // The API has no call that waits for a template.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The newest start event that has an origin.
fn origin(app: &App<'_>, id: &str) -> Result<Value> {
    let events = app.get(id, "/events?limit=20")?;
    let starts = events.as_array().context("events are a list")?;
    let found = starts.iter().find(|e| e["type"] == "start" && e["origin"].is_string());
    found.cloned().with_context(|| format!("no start has an origin: {events}"))
}

fn identity(cx: &Context) -> Outcome {
    let platform = cx.shared();
    with_template(platform)?;
    let app = platform.app("twins")?;
    let ids = [app.run("one", service(json!({})))?, app.run("two", service(json!({})))?];
    let line = "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid /etc/machine-id \
                /sys/class/net/eth0/address; hostname; ip -6 addr show eth0 | grep fdaa; \
                head -c 16 /dev/urandom | od -An -tx1; date +%s";
    let mut seen: Vec<Vec<String>> = Vec::new();
    for id in &ids {
        ensure!(origin(&app, id)?["origin"] == "template", "{}", app.story(id));
        seen.push(shell(&app, id, line)?.lines().map(str::to_owned).collect());
        let clock: i64 = seen.last().and_then(|s| s.last()).context("a date")?.parse()?;
        let here: i64 = sh("date +%s")?.trim().parse()?;
        ensure!((clock - here).abs() <= 5, "the guest's clock is {clock}, ours {here}");
    }
    for (one, two) in seen[0].iter().zip(&seen[1]).take(seen[0].len() - 1) {
        ensure!(one != two, "both machines have {one}");
    }
    Ok(())
}

fn autosuspend(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("nap")?;
    let config = service(json!({
        "autostop": "suspend", "autostop_after_seconds": 1, "server_timing": true,
    }));
    let id = app.run("one", config)?;
    let before = answer(platform, "nap", "/cgi-bin/id")?;
    app.wait(&id, "suspended")?;
    let vm = sh(&format!("ls {}/vms/{id} 2>/dev/null | wc -l", platform.data().display()))?;
    ensure!(vm.trim() == "0", "a suspended machine has no process");
    let suspend = app.event(&id, "suspend")?;
    ensure!(suspend["stages_ms"]["save"].is_number(), "{suspend}");
    let response = platform.get("nap", "/cgi-bin/id")?;
    let timing = response.headers().get("server-timing").context("it shows where the time went")?;
    let timing = timing.to_str()?.to_owned();
    ensure!(timing.contains("total;dur="), "{timing}");
    ensure!(response.text()? == before, "it is the same boot");
    ensure!(origin(&app, &id)?["resumed"] == true, "{}", app.story(&id));
    let suspends = || -> Result<usize> {
        let events = app.get(&id, "/events?limit=50")?;
        let all = events.as_array().context("events are a list")?;
        Ok(all.iter().filter(|event| event["type"] == "suspend").count())
    };
    let before = suspends()?;
    let again = platform.get("nap", "/cgi-bin/id")?;
    // On a busy machine it may have been idle once more before that.
    let woken = again.headers().contains_key("server-timing");
    ensure!(!woken || suspends()? > before, "nothing was woken for this one");
    // The guest's clock has not been paused.
    let there = awake(&app, &id, "echo $(date +%s)")?;
    let here = sh("date +%s")?;
    let apart = there.trim().parse::<i64>()? - here.trim().parse::<i64>()?;
    ensure!(apart.abs() <= 5, "the clocks are {apart} s apart");
    Ok(())
}

/// Runs a command in a machine that may be suspended for being idle at any moment.
fn awake(app: &App<'_>, id: &str, line: &str) -> Result<String> {
    for _ in 0..10 {
        app.post(id, "/start", json!({}))?;
        app.wait(id, "started")?;
        if let Ok((0, out)) = app.exec(id, &["sh", "-c", line]) {
            return Ok(out);
        }
    }
    anyhow::bail!("it is never awake\n{}", app.story(id))
}

fn dropped(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("dropped")?;
    let id = app.run("one", service(json!({})))?;
    let boot = || shell(&app, &id, "cat /proc/sys/kernel/random/boot_id");
    let suspend = || -> Outcome {
        app.post(&id, "/suspend", json!({}))?;
        app.wait(&id, "suspended")
    };
    // A plain start resumes it; the answer reports that.
    let first = boot()?;
    shell(&app, &id, "echo kept > /kept")?;
    suspend()?;
    let started = app.post(&id, "/start", json!({}))?;
    ensure!(started["resumed"] == true && started["previous_state"] == "suspended", "{started}");
    app.wait(&id, "started")?;
    ensure!(boot()? == first, "it was resumed");
    // A stop drops the memory, and the next start begins afresh.
    suspend()?;
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let started = app.post(&id, "/start", json!({}))?;
    ensure!(started["resumed"] == false, "{started}");
    app.wait(&id, "started")?;
    ensure!(boot()? != first, "it began afresh");
    ensure!(shell(&app, &id, "cat /kept 2>/dev/null; true")?.is_empty(), "with a fresh disk");
    // Damage is found before the guest runs; then it boots, with its disk.
    shell(&app, &id, "echo kept > /kept; sync")?;
    suspend()?;
    let ram = platform.data().join("machines").join(&id).join("suspend/ram");
    sh(&format!("printf damaged | dd of={} bs=1 seek=20000000 conv=notrunc 2>&1", ram.display()))?;
    app.post(&id, "/start", json!({}))?;
    app.wait(&id, "started")?;
    ensure!(shell(&app, &id, "cat /kept")? == "kept\n", "the disk was kept\n{}", app.story(&id));
    let events = app.get(&id, "/events?limit=10")?.to_string();
    ensure!(events.contains("its memory is damaged"), "an event has the reason: {events}");
    // An update drops it too.
    suspend()?;
    let update = json!({"config": {"image": "busybox:latest", "env": {"A": "b"}}});
    app.post(&id, "", update)?;
    app.wait(&id, "started")?;
    ensure!(shell(&app, &id, "echo $A")? == "b\n");
    // Only what runs can be suspended.
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let (status, refused) = platform.call(Method::POST, &app.path(&id, "/suspend"), None)?;
    ensure!(status.is_client_error(), "{status} {refused}");
    Ok(())
}

fn itself(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("itself")?;
    let mut config = service(json!({}));
    config["init"] = json!({"on_resume": ["sh", "-c", "echo resumed > /hook"]});
    let id = app.run("one", config)?;
    let before = answer(platform, "itself", "/cgi-bin/id")?;
    // Its own API, without a token: itself, and no other machine.
    let ask = |path: &str| {
        format!(
            "printf 'POST /v1/apps/itself/machines/{path} HTTP/1.1\\r\\nHost: flaps\\r\\n\
             Content-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' | client /.fly/api"
        )
    };
    let other = shell(&app, &id, &ask("00000000000000/suspend"))?;
    ensure!(other.starts_with("HTTP/1.1 40"), "{other}");
    // The exec ends with the suspend, unless it is faster.
    let line = format!("setsid sh -c \"({}) > /answer\" &", ask(&format!("{id}/suspend")));
    let _ = app.exec(&id, &["sh", "-c", &line]);
    app.wait(&id, "suspended")?;
    ensure!(answer(platform, "itself", "/cgi-bin/id")? == before, "it was resumed");
    let output = shell(
        &app,
        &id,
        "for i in 1 2 3 4 5; do [ -s /answer ] && [ -s /hook ] && break; sleep 1; done; cat /answer /hook",
    )?;
    ensure!(output.contains("\"ok\":true") && output.contains("resumed"), "{output}");
    Ok(())
}

/// Memory, disk and an open connection through rounds of suspend and resume, and
/// stops in between.
fn rounds(cx: &Context) -> Outcome {
    let rounds = rounds_wanted(8);
    let platform = cx.own("suspends", &[])?;
    with_template(&platform)?;
    let app = platform.app("rounds")?;
    let id = app.run("one", service(json!({})))?;
    let sums = "cat /dev/shm/a /data | wc -c; od -An -tx4 /dev/shm/a | sort | tail -n 1; cmp /dev/shm/a /data";
    shell(
        &app,
        &id,
        "dd if=/dev/urandom of=/dev/shm/a bs=1M count=8 2>/dev/null; cp /dev/shm/a /data; sync",
    )?;
    // A line each way over one connection that stays open.
    shell(&app, &id, "setsid nc -ll -p 9000 -e cat >/dev/null 2>&1 &")?;
    let machine = app.get(&id, "")?;
    let address = machine["private_ipv4"].as_str().context("it has an address")?.to_owned();
    let mut connection = BufReader::new(platform.connect(&address, 9000)?);
    let before = shell(&app, &id, sums)?;
    let boot = shell(&app, &id, "cat /proc/sys/kernel/random/boot_id")?;
    let open = || sh(&format!("ls /proc/{}/fd | wc -l", platform.pid()));
    let files = open()?.trim().parse::<i64>()?;
    for round in 0..rounds {
        app.post(&id, "/suspend", json!({}))?;
        app.wait(&id, "suspended")?;
        answer(&platform, "rounds", "/")?;
        connection.get_ref().write_all(format!("round {round}\n").as_bytes())?;
        let mut line = String::new();
        connection.read_line(&mut line)?;
        ensure!(line == format!("round {round}\n"), "{line:?} came back");
    }
    ensure!(shell(&app, &id, sums)? == before, "memory and disk are what they were");
    ensure!(shell(&app, &id, "cat /proc/sys/kernel/random/boot_id")? == boot);
    for _ in 0..rounds {
        app.post(&id, "/stop", json!({}))?;
        app.wait(&id, "stopped")?;
        answer(&platform, "rounds", "/")?;
    }
    ensure!(origin(&app, &id)?["origin"] == "template");
    let now = open()?.trim().parse::<i64>()?;
    ensure!(now < files + 20, "open files of the daemon: {files}, then {now}");
    drop(app);
    platform.wait_until_empty()?;
    platform.down()?;
    let left = platform.leftovers();
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}

/// How many rounds: few in the usual run, many where the caller asks for them.
fn rounds_wanted(usual: usize) -> usize {
    let given = std::env::var_os("UPDRAFT_E2E_ROUNDS").and_then(|text| text.into_string().ok());
    given.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The daemon dies at moments spread over a suspend and a resume.
fn killed(cx: &Context) -> Outcome {
    let platform = cx.own("killed", &[])?;
    with_template(&platform)?;
    let app = platform.app("killed")?;
    let id = app.run("one", service(json!({})))?;
    shell(
        &app,
        &id,
        "dd if=/dev/urandom of=/dev/shm/a bs=1M count=4 2>/dev/null; cp /dev/shm/a /data; sync",
    )?;
    let same = || shell(&app, &id, "cmp /dev/shm/a /data && cat /proc/sys/kernel/random/boot_id");
    let before = same()?;
    for moment in [0, 5, 15, 30, 60, 120] {
        app.post(&id, "/suspend", json!({}))?;
        std::thread::sleep(std::time::Duration::from_millis(moment));
        platform.kill()?;
        platform.up()?;
        app.wait(&id, "suspended")?;
        app.post(&id, "/start", json!({}))?;
        std::thread::sleep(std::time::Duration::from_millis(moment));
        platform.kill()?;
        platform.up()?;
        app.wait(&id, "started")?;
        ensure!(same()? == before, "after {moment} ms: memory is kept\n{}", app.story(&id));
    }
    Ok(())
}

/// All in one second, on two cores: each is answered.
fn crowd(cx: &Context) -> Outcome {
    let machines = rounds_wanted(30);
    let platform = cx.own("crowd", &[])?;
    with_template(&platform)?;
    let names: Vec<String> = (0..machines).map(|n| format!("crowd-{n}")).collect();
    let apps = names.iter().map(|name| platform.app(name)).collect::<Result<Vec<_>>>()?;
    let mut ids = Vec::new();
    for app in &apps {
        let id = app.run("one", service(json!({})))?;
        app.post(&id, "/suspend", json!({}))?;
        app.wait(&id, "suspended")?;
        ids.push(id);
    }
    let answers: Vec<Result<String>> = std::thread::scope(|scope| {
        let platform = &platform;
        let ask = |name: &'_ String| {
            let name = name.clone();
            scope.spawn(move || answer(platform, &name, "/"))
        };
        let asked: Vec<_> = names.iter().map(ask).collect();
        asked.into_iter().map(|thread| thread.join().expect("no request panics")).collect()
    });
    answers.into_iter().collect::<Result<Vec<_>>>()?;
    for (app, id) in apps.iter().zip(&ids) {
        ensure!(origin(app, id)?["resumed"] == true, "{}", app.story(id));
    }
    Ok(())
}
