//! Bad input and faults: refused with words, or survived with an event.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform, sh};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("bad_calls_get_the_reason", calls),
    ("a_daemon_that_cannot_start_reports_why", daemons),
    ("what_cannot_run_fails_with_its_reason", cannot_run),
    ("an_app_that_ignores_its_stop_is_killed", ignores_stop),
    ("an_app_that_fills_its_memory_is_restarted", memory),
    ("an_app_that_fills_its_disk_harms_only_itself", disk),
    ("an_app_that_floods_its_log_is_cut", flood),
    ("an_app_that_never_listens_is_a_504_and_down_leaves_nothing", silent),
    ("a_killed_vm_is_noted_and_restarted", killed),
    ("a_full_disk_loses_nothing_that_was_acknowledged", full_disk),
];

fn refused(platform: &Platform, path: &str, body: Value, status: u16, word: &str) -> Outcome {
    let (got, answer) = platform.call(Method::POST, path, Some(body))?;
    ensure!(got.as_u16() == status && answer.to_string().contains(word), "{path}: {got} {answer}");
    Ok(())
}

fn calls(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("badcalls")?;
    let machines = "/apps/badcalls/machines";
    let unknown = json!({"config": {"image": "127.0.0.1:1/no/such:tag"}});
    let asked = platform.call(Method::POST, machines, Some(unknown));
    let (status, answer) = asked?;
    ensure!(!status.is_success(), "an unknown image: {status} {answer}");
    ensure!(answer.to_string().contains("no/such"), "it is named: {answer}");
    for (field, value) in [
        ("guest", json!({"cpus": 3})),
        ("restart", json!({"policy": "sometimes"})),
        ("stop_config", json!({"signal": "SIGNOPE"})),
        ("files", json!([{"guest_path": "relative", "raw_value": "eA=="}])),
        ("mounts", json!([{"path": "/data", "volume": "vol_1"}])),
        ("services", json!([{"protocol": "sctp", "internal_port": 1}])),
    ] {
        let mut config = json!({"image": "busybox:latest"});
        config[field] = value;
        let (status, answer) =
            platform.call(Method::POST, machines, Some(json!({"config": config})))?;
        ensure!(status.is_client_error(), "{field}: {status} {answer}");
        ensure!(answer["error"].as_str().is_some_and(|e| e.contains(field)), "{field}: {answer}");
    }
    let one = json!({"name": "one", "skip_launch": true, "config": {"image": "busybox:latest"}});
    platform.ok(Method::POST, machines, Some(one.clone()))?;
    let (status, answer) = platform.call(Method::POST, machines, Some(one))?;
    ensure!(status.is_client_error() && answer.to_string().contains("one"), "{status} {answer}");
    refused(platform, "/apps/no-such-app/machines", json!({"config": {"image": "x"}}), 404, "app")?;
    refused(platform, &app.path("deadbeef000000", "/start"), json!({}), 404, "deadbeef000000")?;
    refused(platform, machines, json!({"name": "x".repeat(2 << 20)}), 413, "1048576")?;

    let http = Client::new();
    // A name that only the platform sets is taken, and the client is warned that it is not used.
    let config = json!({"image": "busybox:latest", "env": {"FLY_APP_NAME": "x", "OWN": "y"}});
    let answer = http
        .post(format!("{}/v1{machines}", platform.api()))
        .bearer_auth(platform.token())
        .json(&json!({"skip_launch": true, "config": config}))
        .send()?;
    let warnings = answer.headers().get("updraft-warning").cloned();
    let warning = warnings.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(answer.status().is_success(), "{}", answer.status());
    ensure!(warning.contains("FLY_APP_NAME") && !warning.contains("OWN"), "{warning:?}");
    let url = format!("{}/v1/apps", platform.api());
    let answer = http.get(url).bearer_auth("wrong").send()?;
    ensure!(answer.status().as_u16() == 401, "{}", answer.status());
    ensure!(answer.headers().contains_key("fly-request-id"), "{:?}", answer.headers());
    let edge = |value: String| {
        http.get(platform.edge()).header("host", "badcalls.localhost").header("x-big", value).send()
    };
    let big = edge("x".repeat(512 << 10))?;
    ensure!(big.status().as_u16() == 431, "{}", big.status());
    let none = platform.get("no-such-app", "/")?;
    let (status, text) = (none.status().as_u16(), none.text()?);
    ensure!(status == 404 && text.starts_with("UR"), "{status} {text}");
    let none = edge("x".into())?;
    let (status, text) = (none.status().as_u16(), none.text()?);
    let coded = text.starts_with("UR") || text.starts_with("PR");
    ensure!((status == 404 || status == 503) && coded, "{status} {text}");
    Ok(())
}

fn daemons(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let ports = ["--api", "127.0.0.1:0", "--edge", "127.0.0.1:0", "--accelerator", "tcg"];
    let up = |more: &[&str]| platform.cli_raw(&[&["up"], &ports[..], more].concat());
    let (code, _, err) = up(&[])?;
    let pid = std::fs::read_to_string(platform.data().join("lock"))?;
    ensure!(code == 1 && err.contains(&format!("pid {}", pid.trim())), "{code} {err}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let dir = cx.dir("refused").display().to_string();
    let up = |args: &[&str]| {
        platform.cli_raw(&[&["up", "--data-dir", &dir, "--accelerator", "tcg"], args].concat())
    };
    let (code, _, err) = up(&["--api", &address, "--edge", "127.0.0.1:0"])?;
    ensure!(code == 1 && err.contains("--api") && err.contains(&address), "{code} {err}");
    let (code, _, err) = up(&["--api", "127.0.0.1:0", "--edge", &address])?;
    ensure!(code == 1 && err.contains("--edge") && err.contains(&address), "{code} {err}");
    // The ports are taken before anything of the host is made.
    ensure!(!cx.dir("refused").join("guest").exists(), "a refused start has begun its host");
    let (code, _, err) = up(&["--api", "x", "--edge", "y", "--mtu", "1", "--region", "No"])?;
    let all = ["--api", "--edge", "--mtu", "--region"].iter().all(|flag| err.contains(flag));
    ensure!(code == 2 && all, "all complaints at once: {code} {err}");

    std::fs::write(cx.dir("a-file"), "")?;
    for place in [cx.dir("a-file").display().to_string(), "/proc/updraft".into()] {
        let (code, _, err) = platform.cli_raw(&["up", "--data-dir", &place])?;
        ensure!(code == 1 && err.contains(&place), "{code} {err}");
    }
    Ok(())
}

fn cannot_run(cx: &Context) -> Outcome {
    let app = cx.shared().app("cannotrun")?;
    for (name, init, word) in [
        ("nothing", json!({"entrypoint": [], "cmd": []}), "nothing to run"),
        ("missing", json!({"exec": ["/bin/nosuch"]}), "/bin/nosuch"),
        ("plain", json!({"exec": ["/etc/passwd"]}), "/etc/passwd"),
    ] {
        let id = app.create(name, json!({"init": init, "restart": {"policy": "no"}}))?;
        app.wait(&id, "failed")?;
        let event = app.event(&id, "launch_failed")?;
        let reason = event["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(word), "{name}: {event}");
        let path = app.path(&id, "/wait?state=started&timeout=60");
        let (status, answer) = cx.shared().call(Method::GET, &path, None)?;
        ensure!(status.is_client_error() && status.as_u16() != 408, "at once: {status} {answer}");
    }
    Ok(())
}

fn exit_of(app: &App<'_>, id: &str) -> Result<Value> {
    Ok(app.event(id, "exit")?["request"]["exit_event"].clone())
}

fn ignores_stop(cx: &Context) -> Outcome {
    let app = cx.shared().app("deaf")?;
    let line = "trap '' INT TERM; touch /deaf; while :; do sleep 1; done";
    let id = app.run("one", json!({"init": {"exec": ["sh", "-c", line]}}))?;
    let trapped = "until test -e /deaf; do sleep 0.1; done";
    app.exec(&id, &["sh", "-c", trapped])?;
    app.post(&id, "/stop", json!({"timeout": "1s"}))?;
    app.wait(&id, "stopped")?;
    let exit = exit_of(&app, &id)?;
    ensure!(exit["guest_signal"] == 9 && exit["requested_stop"] == true, "{exit}");
    ensure!(exit["oom_killed"] == false && exit["restarting"] == false, "{exit}");
    Ok(())
}

/// A main process that takes ever more memory: lines to be sorted without end.
/// Two that touch more together than there is; the main process is the larger,
/// so the kernel picks it.
const HUNGRY: &str =
    "dd if=/dev/zero of=/dev/null bs=80M & exec dd if=/dev/zero of=/dev/null bs=160M";

fn memory(cx: &Context) -> Outcome {
    let app = cx.shared().app("hungry")?;
    let config = json!({"init": {"exec": ["sh", "-c", HUNGRY]},
                        "restart": {"policy": "on-failure", "max_retries": 1}});
    let id = app.create("one", config)?;
    app.wait(&id, "stopped")?;
    let events = app.get(&id, "/events?limit=50")?;
    let all = events.as_array().context("a list")?;
    let exits: Vec<_> = all.iter().map(|e| &e["request"]["exit_event"]).collect();
    let exits: Vec<_> = exits.into_iter().filter(|exit| exit.is_object()).collect();
    ensure!(exits.len() == 2, "one try more: {events}");
    ensure!(exits.iter().all(|exit| exit["oom_killed"] == true), "{events}");
    ensure!(exits[0]["restarting"] == false && exits[1]["restarting"] == true, "{events}");
    Ok(())
}

fn disk(cx: &Context) -> Outcome {
    let app = cx.shared().app("fat")?;
    let id = app.run("one", json!({"rootfs": {"size_gb": 1}}))?;
    let fill = "dd if=/dev/zero of=/fill bs=1M; echo status=$?; df -m / | tail -1";
    let (_, out) = app.exec(&id, &["sh", "-c", fill])?;
    ensure!(out.contains("No space left") && out.contains("status=1"), "{out}");
    let dir = cx.shared().data().join("machines").display().to_string();
    let used: u64 = sh(&format!("du -sm {dir} | cut -f1"))?.trim().parse()?;
    ensure!(used < 8 << 10, "the disk is bounded: {used} MiB");
    let (code, out) = app.exec(&id, &["sh", "-c", "rm /fill && echo more > /more && cat /more"])?;
    ensure!((code, out.as_str()) == (0, "more\n"), "{code} {out}");
    Ok(())
}

fn flood(cx: &Context) -> Outcome {
    let app = cx.shared().app("loud")?;
    // After a pause there is room for a line again, and what was lost is reported.
    let line = "yes 0123456789012345678901234567890123456789 | head -c 40000000; sleep 3; echo end";
    let id = app.create(
        "one",
        json!({"init": {"exec": ["sh", "-c", line]}, "restart": {"policy": "no"}}),
    )?;
    app.wait(&id, "stopped")?;
    let logs = app.logs()?;
    ensure!(logs.contains("end"), "{logs}");
    let data = cx.shared().data().display().to_string();
    let files = format!("find {data} -path '*log*' -name '*{id}*'");
    let dropped =
        sh(&format!("{files} -exec grep -rhc 'were dropped' {{}} + | sort -n | tail -1"))?;
    ensure!(dropped.trim() != "0" && !dropped.trim().is_empty(), "what was dropped is counted");
    let bytes = sh(&format!("{files} -exec du -sbc {{}} + | tail -1 | cut -f1"))?;
    // The setting logs.max_size_mib, and what is written before the oldest lines are removed.
    ensure!(bytes.trim().parse::<u64>()? <= 18 << 20, "the log is bounded: {bytes}");
    Ok(())
}

fn silent(cx: &Context) -> Outcome {
    let platform = cx.own("silent", &["--wake-timeout", "4s"])?;
    let app = platform.app("silent")?;
    let id = app.run(
        "one",
        json!({"init": {"exec": ["sleep", "100000"]},
               "services": [{"protocol": "tcp", "internal_port": 8080,
                             "ports": [{"port": 80, "handlers": ["http"]}]}]}),
    )?;
    let answer = platform.get("silent", "/")?;
    let (status, text) = (answer.status().as_u16(), answer.text()?);
    ensure!(status == 504 && text.starts_with("PM03"), "{status} {text}");
    ensure!(text.contains("silent") && text.contains("hint:"), "{text} {id}");
    // The tap's name ends in its slot, the link's in `-host`.
    let left = platform.leftovers();
    let tap = left.lines().any(|line| line.contains(": ud") && !line.contains("-host"));
    ensure!(tap, "its tap is there while it runs: {left}");
    platform.down()?;
    let data = platform.data().display().to_string();
    let processes = sh(&format!("ps -eo args | grep '[q]emu-system' | grep -F {data} || true"))?;
    ensure!(processes.is_empty(), "{processes}");
    ensure!(!sh("ip -o addr")?.contains(" 10.77."), "no address is left");
    ensure!(!sh("nft list ruleset")?.contains("10.77."), "no rule is left");
    platform.up()?;
    app.wait(&id, "started")
}

fn killed(cx: &Context) -> Outcome {
    let app = cx.shared().app("killed")?;
    let id = app.run("one", json!({"restart": {"policy": "on-failure", "max_retries": 0}}))?;
    let pid = sh(&format!("pgrep -f '^[^ ]*qemu-system.*updraft-{id}-'"))?;
    sh(&format!("kill -9 {}", pid.trim()))?;
    app.wait(&id, "stopped")?;
    let event = app.event(&id, "exit")?;
    ensure!(event["reason"].is_string(), "it records what happened: {event}");
    ensure!(event["request"]["exit_event"]["requested_stop"] == false, "{event}");

    let id = app.run("two", json!({"restart": {"policy": "always"}}))?;
    let boot = || app.exec(&id, &["cat", "/proc/sys/kernel/random/boot_id"]);
    let before = boot()?.1;
    let started = app.event(&id, "start")?["id"].as_str().context("an id")?.to_owned();
    let pid = sh(&format!("pgrep -f '^[^ ]*qemu-system.*updraft-{id}-'"))?;
    sh(&format!("kill -9 {}", pid.trim()))?;
    // Only what is newer than the former start counts.
    app.get(&id, &format!("/wait?state=started&timeout=60&from_event_id={started}"))?;
    ensure!(boot()?.1 != before, "another boot");
    let exit = exit_of(&app, &id)?;
    ensure!(exit["restarting"] == true, "{exit}");
    Ok(())
}

/// A file system of its own, gone with the value.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(path: std::path::PathBuf, size: &str) -> Result<Self> {
        std::fs::create_dir_all(&path)?;
        sh(&format!("mount -t tmpfs -o size={size} tmpfs {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(err) = sh(&format!("umount -l {}", self.0.display())) {
            eprintln!("{err:#}");
        }
    }
}

fn full_disk(cx: &Context) -> Outcome {
    // Imports keep 640 MiB free.
    let disk = Tmpfs::mount(cx.dir("full"), "1200m")?;
    // Small as the disk is, machines are to be placed on it.
    let platform = cx.own("full/daemon", &["--disk-overcommit", "1000"])?;
    let app = platform.app("full")?;
    let kept = app.run("kept", json!({}))?;
    // Made in the background, it would give room back that the test has taken.
    crate::sleep::with_template(&platform)?;
    let filler = disk.0.join("filler");
    // It ends with an error once nothing fits any more: that is what is wanted.
    let _ = sh(&format!("cat /dev/zero > {}", filler.display()));
    let body = json!({"name": "late", "config": {"image": "busybox:latest"}});
    let (status, answer) = platform.call(Method::POST, "/apps/full/machines", Some(body))?;
    if status.is_success() {
        // There was room for the record; then the start fails with its reason.
        let id = answer["id"].as_str().context("an id")?;
        let (status, answer) =
            platform.call(Method::GET, &app.path(id, "/wait?state=started"), None)?;
        ensure!(status.is_client_error(), "nothing starts on a full disk: {status} {answer}");
        platform.ok(Method::DELETE, &app.path(id, "?force=true"), None)?;
    } else {
        ensure!(status.is_server_error() && answer["error"].is_string(), "{status} {answer}");
    }
    ensure!(app.state(&kept)? == "started", "what runs keeps running");
    std::fs::remove_file(&filler)?;
    app.run("after", json!({}))?;
    ensure!(app.exec(&kept, &["true"])?.0 == 0, "and its guest answers");
    platform.kill()?;
    platform.up()?;
    ensure!(app.state(&kept)? == "started", "and is known to the next daemon");
    drop(app);
    platform.wait_until_empty()?;
    platform.down()
}
