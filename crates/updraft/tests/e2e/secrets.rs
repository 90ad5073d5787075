//! Secrets from the API to the environment of a real guest, and nowhere else.

use super::Test;
use crate::platform::{Context, Outcome, sh};
use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

pub(crate) const TESTS: &[(&str, Test)] =
    &[("secrets_reach_the_guest_and_no_file_of_the_host", reach_the_guest)];

/// Long enough that no file has it by chance.
const FIRST: &str = "hunter2-in-plain-text-first";
const SECOND: &str = "hunter2-in-plain-text-second";

fn reach_the_guest(cx: &Context) -> Outcome {
    let platform = cx.own("secrets", &[])?;
    let app = platform.app("sealed")?;
    let set = |name: &str, value: &str| {
        let path = format!("/apps/sealed/secrets/{name}");
        platform.ok(Method::POST, &path, Some(json!({ "value": value })))
    };
    set("PASSWORD", FIRST)?;
    let version = set("FILE", "Y29udGVudA==")?["version"].clone();
    let id = app.run(
        "one",
        json!({
            "env": {"PASSWORD": "of the config", "B": "config"},
            "files": [{"guest_path": "/etc/secret", "secret_name": "FILE", "mode": 0o400}],
        }),
    )?;
    let show = ["sh", "-c", "echo $PASSWORD $B; stat -c %a /etc/secret; cat /etc/secret"];
    let (_, out) = app.exec(&id, &show)?;
    ensure!(out == format!("{FIRST} config\n400\ncontent"), "{out}\n{}", app.story(&id));
    ensure!(app.get(&id, "")?["secrets_version"] == version, "{}", app.story(&id));
    // A daemon that was killed starts machines with what the host has.
    set("PASSWORD", SECOND)?;
    platform.kill()?;
    platform.up()?;
    let (_, out) = app.exec(&id, &show)?;
    ensure!(out.starts_with(FIRST), "a running machine keeps what it has: {out}");
    app.post(&id, "/restart", json!(null))?;
    app.wait(&id, "started")?;
    let (_, out) = app.exec(&id, &show)?;
    ensure!(out.starts_with(SECOND), "{out}");
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let data = platform.data().display().to_string();
    let found = sh(&format!("grep -rlaF hunter2-in-plain '{data}' || true"))?;
    ensure!(found.is_empty(), "files with a secret in plain text:\n{found}");
    let mode = sh(&format!("stat -c %a '{data}/secrets.key'"))?;
    ensure!(mode == "600\n", "{mode}");
    Ok(())
}
