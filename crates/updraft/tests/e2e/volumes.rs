//! Volumes: data that outlives boots, machines and the daemon.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform, sh};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_volume_keeps_its_files_over_stops_and_kills", keeps),
    ("volumes_of_one_machine_are_mounted_in_order", several),
    ("an_extended_volume_is_larger_at_the_next_start", extended),
    ("a_volume_stays_with_a_machine_that_is_suspended", suspended),
    ("commands_about_volumes", commands),
];

fn create(platform: &Platform, app: &App<'_>, body: Value) -> Result<String> {
    let path = format!("/apps/{}/volumes", app.name);
    let made = platform.ok(Method::POST, &path, Some(body))?;
    Ok(made["id"].as_str().context("a volume has an id")?.to_owned())
}

fn mounting(mounts: &Value) -> Value {
    json!({ "mounts": mounts })
}

/// The output of a command line in the guest, which has to succeed.
fn inside(app: &App<'_>, id: &str, line: &str) -> Result<String> {
    let (code, out) = app.exec(id, &["sh", "-c", line])?;
    ensure!(code == 0, "{line}: {code} {out}\n{}", app.story(id));
    Ok(out)
}

fn destroy(app: &App<'_>, id: &str) -> Outcome {
    app.platform.ok(Method::DELETE, &app.path(id, "?force=true"), None)?;
    app.wait(id, "destroyed")
}

fn stop_and_start(app: &App<'_>, id: &str) -> Outcome {
    app.post(id, "/stop", json!({}))?;
    app.wait(id, "stopped")?;
    app.post(id, "/start", json!({}))?;
    app.wait(id, "started")
}

fn keeps(cx: &Context) -> Outcome {
    let platform = cx.own("volume", &[])?;
    let app = platform.app("volume")?;
    let volume = create(&platform, &app, json!({ "name": "data", "size_gb": 1 }))?;
    let mounts = json!([{ "volume": volume, "path": "/data" }]);
    let id = app.run("one", mounting(&mounts))?;
    let out = inside(&app, &id, "stat -c '%u %a' /data; echo kept > /data/file; cat /proc/mounts")?;
    ensure!(out.starts_with("0 755\n") && out.contains("/dev/vdc /data ext4 rw"), "{out}");
    app.logs_until(&id, "Mounting /dev/vdc at /data w/ uid: 0, gid: 0 and chmod 0755\n")?;
    let start = app.event(&id, "start")?;
    let reason = start["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("it has volumes"), "the start shows why it was cold: {start}");
    // No other machine gets it, running or not.
    let other = json!({ "name": "two", "config": { "image": "busybox:latest", "mounts": mounts } });
    let path = format!("/apps/{}/machines", app.name);
    let refused = |when: &str| {
        let (status, answer) = platform.call(Method::POST, &path, Some(other.clone()))?;
        ensure!(status == 409 && answer.to_string().contains(&id), "{when}: {status} {answer}");
        Ok(())
    };
    refused("it runs")?;
    stop_and_start(&app, &id)?;
    ensure!(inside(&app, &id, "cat /data/file")? == "kept\n");
    platform.kill()?;
    platform.up()?;
    ensure!(inside(&app, &id, "cat /data/file; echo more >> /data/file")? == "kept\n");
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    platform.kill()?;
    platform.up()?;
    refused("it is stopped")?;
    let volume_path = format!("/apps/{}/volumes/{volume}", app.name);
    let (status, answer) = platform.call(Method::DELETE, &volume_path, None)?;
    ensure!(status == 409, "{status} {answer}");
    let disk = platform.data().join(format!("volumes/{volume}.raw"));
    sh(&format!("e2fsck -fn {}", disk.display())).context("the file system is whole")?;
    // It outlives its machine, and the next one finds the files.
    destroy(&app, &id)?;
    let id = app.run("three", mounting(&json!([{ "name": "data", "path": "/other" }])))?;
    ensure!(inside(&app, &id, "cat /other/file")? == "kept\nmore\n");
    destroy(&app, &id)?;
    platform.ok(Method::DELETE, &volume_path, None)?;
    ensure!(!disk.exists(), "its disk is removed");
    drop(app);
    platform.wait_until_empty()?;
    platform.down()
}

fn several(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("mounts")?;
    let volume = |name: &str, fstype: &str| {
        create(platform, &app, json!({ "name": name, "size_gb": 1, "fstype": fstype }))
    };
    let (outer, inner, disk) =
        (volume("outer", "ext4")?, volume("inner", "ext4")?, volume("disk", "raw")?);
    // The child is named first, and is mounted after its parent.
    let mounts = json!([
        { "volume": inner, "path": "/a/b" },
        { "volume": disk, "path": "/disk" },
        { "volume": outer, "path": "/a" },
    ]);
    let id = app.run("one", mounting(&mounts))?;
    let out = inside(
        &app,
        &id,
        "echo 1 > /a/file; echo 2 > /a/b/file; readlink /disk; \
         echo raw | busybox dd of=/disk conv=notrunc 2>/dev/null; grep ' /a' /proc/mounts",
    )?;
    ensure!(out.starts_with("/dev/vdd\n/dev/vde /a ext4"), "{out}");
    ensure!(out.contains("/dev/vdc /a/b ext4"), "{out}");
    stop_and_start(&app, &id)?;
    let out = inside(&app, &id, "cat /a/file /a/b/file; busybox head -c 4 /disk")?;
    ensure!(out == "1\n2\nraw\n", "{out}");
    // One of them alone, after an update.
    let config =
        json!({ "image": "busybox:latest", "mounts": [{ "volume": inner, "path": "/b" }] });
    app.post(&id, "", json!({ "config": config }))?;
    app.wait(&id, "started")?;
    ensure!(inside(&app, &id, "cat /b/file; ls /a 2>/dev/null || true")? == "2\n");
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let list = platform.ok(Method::GET, "/apps/mounts/volumes", None)?;
    let attached: Vec<&str> = list
        .as_array()
        .context("a list")?
        .iter()
        .filter(|volume| volume["attached_machine_id"] == id.as_str())
        .filter_map(|volume| volume["id"].as_str())
        .collect();
    ensure!(attached == [inner.as_str()], "the others are free: {list}");
    Ok(())
}

fn extended(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("extend")?;
    let volume = create(platform, &app, json!({ "name": "data", "size_gb": 1 }))?;
    let id = app.run("one", mounting(&json!([{ "volume": volume, "path": "/data" }])))?;
    let mib = |app: &App<'_>| {
        let out = inside(app, &id, "busybox df -m /data | busybox awk 'NR > 1 {print $2}'")?;
        out.trim().parse::<u64>().with_context(|| out.clone())
    };
    ensure!((900..1024).contains(&mib(&app)?), "{}", mib(&app)?);
    inside(&app, &id, "echo kept > /data/file")?;
    let path = format!("/apps/extend/volumes/{volume}/extend");
    let answer = platform.ok(Method::PUT, &path, Some(json!({ "size_gb": 3 })))?;
    ensure!(answer["needs_restart"] == true && answer["volume"]["size_gb"] == 3, "{answer}");
    ensure!(app.get(&id, "")?["config"]["mounts"][0]["size_gb"] == 3, "the config follows it");
    ensure!((900..1024).contains(&mib(&app)?), "the guest keeps what it has seen");
    stop_and_start(&app, &id)?;
    ensure!((2800..3072).contains(&mib(&app)?), "{}\n{}", mib(&app)?, app.story(&id));
    ensure!(inside(&app, &id, "cat /data/file")? == "kept\n");
    Ok(())
}

fn suspended(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("sleeper")?;
    let volume = create(platform, &app, json!({ "name": "data", "size_gb": 1 }))?;
    let id = app.run("one", mounting(&json!([{ "volume": volume, "path": "/data" }])))?;
    inside(&app, &id, "echo kept > /data/file; cat /proc/sys/kernel/random/boot_id > /data/boot")?;
    app.post(&id, "/suspend", json!({}))?;
    app.wait(&id, "suspended")?;
    let (status, answer) =
        platform.call(Method::DELETE, &format!("/apps/sleeper/volumes/{volume}"), None)?;
    ensure!(status == 409, "{status} {answer}");
    app.post(&id, "/start", json!({}))?;
    app.wait(&id, "started")?;
    let same =
        "cat /data/file; cat /proc/sys/kernel/random/boot_id | cmp - /data/boot && echo same";
    let out = inside(&app, &id, same)?;
    ensure!(out == "kept\nsame\n", "it is resumed with its volume: {out}\n{}", app.story(&id));
    Ok(())
}

fn commands(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("diskette")?;
    let made =
        platform.cli(&["volumes", "create", "data", "-a", "diskette", "-s", "1", "--json"])?;
    let made: Value = serde_json::from_str(&made)?;
    let id = made["id"].as_str().context("an id")?.to_owned();
    let table = platform.cli(&["vol", "list", "-a", "diskette"])?;
    ensure!(table.contains(&id) && table.contains("created") && table.contains("1GB"), "{table}");
    let shown = platform.cli(&["volumes", "show", &id, "-a", "diskette"])?;
    ensure!(shown.contains("Encrypted: false") && shown.contains("ext4"), "{shown}");
    let larger =
        platform.cli(&["volumes", "extend", &id, "-a", "diskette", "-s", "+1", "--json"])?;
    let larger: Value = serde_json::from_str(&larger)?;
    ensure!(larger["volume"]["size_gb"] == 2 && larger["needs_restart"] == false, "{larger}");
    let run =
        ["machine", "run", "busybox:latest", "-a", "diskette", "-v", "data:/data", "--detach"];
    platform.cli(&run)?;
    let (code, _, err) = platform.cli_raw(&["volumes", "destroy", &id, "-a", "diskette", "-y"])?;
    ensure!(code != 0 && err.contains("is attached to machine"), "{code} {err}");
    let machines = platform.ok(Method::GET, "/apps/diskette/machines", None)?;
    let machine = machines[0]["id"].as_str().context("a machine")?.to_owned();
    destroy(&app, &machine)?;
    platform.cli(&["volumes", "destroy", &id, "-a", "diskette", "-y"])?;
    let (code, _, err) = platform.cli_raw(&["volumes", "show", &id, "-a", "diskette"])?;
    ensure!(code != 0 && err.contains("volume not found"), "{code} {err}");
    Ok(())
}
