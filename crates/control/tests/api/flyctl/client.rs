//! The real client: every command of `commands.toml` is run, if there is one.

use super::exchange;
use super::record::{ADMIN, Recorder};
use super::script::{Group, Script, State, Step};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use testkit::skip::{Lacks, skip};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// More than any command needs; one that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(100);

struct Client {
    binary: PathBuf,
    home: tempfile::TempDir,
    api: String,
}

struct Ran {
    exit: i32,
    /// Standard output, then standard error.
    text: String,
    out: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_client_ends_as_the_table_has_it() {
    let Some(binary) = std::env::var_os("UPDRAFT_TEST_FLYCTL") else {
        return skip("UPDRAFT_TEST_FLYCTL names no binary of flyctl", Lacks::Optional);
    };
    let only =
        std::env::var_os("UPDRAFT_TEST_FLYCTL_GROUP").and_then(|group| group.into_string().ok());
    let script = Script::load();
    let mut wrong = Vec::new();
    for group in &script.group {
        if only.as_ref().is_none_or(|only| *only == group.name) {
            run_group(Path::new(&binary), group, &mut wrong).await;
        }
    }
    if only.is_none() {
        let client = Client::new(Path::new(&binary), String::new());
        let missing = client.commands().await.into_iter().filter(|name| !script.has(name));
        wrong.extend(missing.map(|name| format!("{name}: commands.toml does not have it")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn run_group(binary: &Path, group: &Group, wrong: &mut Vec<String>) {
    let recorder = Recorder::new().await;
    for call in &group.setup {
        recorder.call(call).await;
    }
    let client = Client::new(binary, format!("http://{}", recorder.addr));
    let known = [("wrong", "no-token-of-this-platform"), ("admin", ADMIN), ("none", "")];
    let mut saved = BTreeMap::from(known.map(|(name, token)| (name.to_owned(), token.to_owned())));
    for step in &group.step {
        let command = step.run.join(" ");
        recorder.begin(&command).await;
        if let Some(machine) = recorder.newest_machine().await {
            saved.insert("machine".to_owned(), machine);
        }
        if let Some(volume) = recorder.newest_volume().await {
            saved.insert("volume".to_owned(), volume);
        }
        if let Some(token) = recorder.app_token().await {
            saved.insert("app_token".to_owned(), token);
        }
        let ran = client.run(step, &saved).await;
        wrong
            .extend(complaint(step, &ran).map(|why| format!("fly {command}: {why}\n{}", ran.text)));
        if let (Some(name), Some(line)) = (&step.save, ran.out.lines().last()) {
            saved.insert(name.clone(), line.trim().to_owned());
        }
    }
    client.stop_agent().await;
    if std::env::var_os("UPDATE_DOCS").is_some() && !group.not_replayed {
        exchange::save(&group.name, &recorder.exchanges());
    }
}

/// The text with what was saved in place of its names.
fn filled(text: &str, saved: &BTreeMap<String, String>) -> String {
    let fill = |text: String, (name, value): (&String, &String)| {
        text.replace(&format!("{{{name}}}"), value)
    };
    saved.iter().fold(text.to_owned(), fill)
}

fn complaint(step: &Step, ran: &Ran) -> Option<String> {
    let fails = matches!(step.state, State::NotYet | State::Fails);
    let wanted = step.exit.unwrap_or(i32::from(fails));
    if ran.exit != wanted {
        return Some(format!("exit code {}, not {wanted}", ran.exit));
    }
    let lacks = !ran.text.contains(&step.prints);
    lacks.then(|| format!("it does not print {:?}", step.prints))
}

impl Client {
    fn new(binary: &Path, api: String) -> Self {
        Self { binary: binary.into(), home: tempfile::tempdir().unwrap(), api }
    }

    fn command(&self, token: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .current_dir(self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("FLY_CONFIG_DIR", self.home.path().join(".fly"))
            .env("FLY_API_BASE_URL", &self.api)
            .env("FLY_FLAPS_BASE_URL", &self.api)
            .env("FLY_UIEX_BASE_URL", &self.api)
            .env("FLY_REGISTRY_HOST", self.api.trim_start_matches("http://"))
            .env("FLY_API_TOKEN", token)
            // Services of Fly.io that are no part of a platform; what is still asked of them
            // goes to a proxy that is not there, and so ends at once.
            .envs([("FLY_SEND_METRICS", "0"), ("FLY_NO_UPDATE_CHECK", "1")])
            .envs([("FLY_NO_INCIDENTS_CHECK", "1"), ("FLY_SYNTHETICS_AGENT", "0")])
            .envs([("HTTPS_PROXY", "http://127.0.0.1:1"), ("CI", "1"), ("NO_COLOR", "1")])
            .kill_on_drop(true);
        command
    }

    async fn run(&self, step: &Step, saved: &BTreeMap<String, String>) -> Ran {
        if let Some(text) = &step.fly_toml {
            std::fs::write(self.home.path().join("fly.toml"), text).unwrap();
        }
        let token = step.token.as_ref().map_or(ADMIN, |name| &saved[name]);
        let mut command = self.command(token);
        if token.is_empty() {
            command.env_remove("FLY_API_TOKEN");
        }
        command
            .args(step.run[0].split(' '))
            .args(step.run[1..].iter().map(|arg| filled(arg, saved)));
        output(command, &step.stdin).await
    }

    /// The agent that some commands leave behind.
    async fn stop_agent(&self) {
        let mut command = self.command(ADMIN);
        command.args(["agent", "stop"]);
        output(command, "").await;
    }

    /// Every command of the client, by its help.
    async fn commands(&self) -> Vec<String> {
        let mut open = vec![String::new()];
        let mut found = Vec::new();
        while let Some(parent) = open.pop() {
            let mut command = self.command(ADMIN);
            command.args(parent.split_whitespace()).arg("--help");
            let below = subcommands(&output(command, "").await.out);
            if below.is_empty() {
                found.push(parent);
            } else {
                open.extend(below.into_iter().map(|name| format!("{parent} {name}").trim().into()));
            }
        }
        found.sort();
        found
    }
}

/// Names of the commands in a help text: they stand between its usage and its flags.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Usage:").skip(1);
    let lines = lines.take_while(|line| *line != "Flags:");
    let sections = lines.collect::<Vec<_>>();
    let sections = sections.split(|line| line.is_empty());
    let sections = sections.filter(|lines| !matches!(lines, ["Aliases:" | "Examples:", ..]));
    let entries = sections.flatten().filter_map(|line| line.strip_prefix("  "));
    let names = entries.filter_map(|entry| entry.split_whitespace().next());
    names.filter(|name| *name != "fly").map(str::to_owned).collect()
}

async fn output(mut command: Command, stdin: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(stdin.as_bytes()).await.unwrap();
    drop(pipe);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let Ok(ended) = ended else {
        return Ran { exit: -1, text: "it did not end".into(), out: String::new() };
    };
    let ended = ended.unwrap();
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    let text = format!("{out}{}", String::from_utf8_lossy(&ended.stderr));
    Ran { exit: ended.status.code().unwrap_or(-1), text, out }
}
