//! A server that knows one app with two machines, and records its requests.

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use clap::FromArgMatches;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The output of a command.
#[must_use = "look at the output or at the exit code"]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) asked: String,
}

impl Ran {
    /// All of it, as a snapshot.
    pub(crate) fn show(&self) -> String {
        let mut text = format!("exit {}\n", self.code);
        for (name, part) in [("asked", &self.asked), ("stdout", &self.out), ("stderr", &self.err)] {
            if !part.is_empty() {
                text.push_str(&format!("--- {name}\n{part}"));
            }
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
}

/// How a command is run.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) input: &'static str,
    /// After the input comes an error, not the end.
    pub(crate) broken_input: bool,
    pub(crate) terminal: bool,
    pub(crate) broken_stdout: bool,
    pub(crate) columns: Option<u16>,
    pub(crate) cwd: Option<PathBuf>,
    /// Further environment variables.
    pub(crate) vars: Vec<(&'static str, String)>,
}

/// Runs a command against the fake server.
pub(crate) async fn cli(args: &[&str]) -> Ran {
    cli_with(Setup::default(), args).await
}

/// The same, with an input or a working directory.
pub(crate) async fn cli_with(setup: Setup, args: &[&str]) -> Ran {
    let asked = Buffer::default();
    let log = asked.clone();
    let routes = Router::new().fallback(move |request: Request| answer(log.clone(), request));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let tasks = rt::Tasks::new();
    tasks.spawn_until_stop(async move {
        axum::serve(listener, routes).await.unwrap();
    });
    let more = setup.vars.clone();
    let mut vars = vec![("UPDRAFT_API", api.as_str()), ("UPDRAFT_TOKEN", "t0ken")];
    vars.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
    let mut ran = run(setup, args, &vars).await;
    tasks.shutdown(Duration::from_secs(5)).await;
    ran.asked = asked.text();
    ran
}

/// Runs a command with this environment.
pub(crate) async fn run(setup: Setup, args: &[&str], vars: &[(&str, &str)]) -> Ran {
    let words = std::iter::once("updraft").chain(args.iter().copied()).map(Into::into);
    let parsed = match cli::parse(cli::command(), words) {
        cli::Parsed::Matches(matches) => {
            cli::Cli::from_arg_matches(&matches).map_err(|err| err.format(&mut cli::command()))
        }
        cli::Parsed::Text(cli::Text { text, stdout, code }) => {
            let (out, err) = if stdout { (text, String::new()) } else { (String::new(), text) };
            return Ran { code, out, err, asked: String::new() };
        }
    };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(err) => {
            let (code, err) = (err.exit_code() as u8, err.to_string());
            return Ran { code, out: String::new(), err, asked: String::new() };
        }
    };
    let (out, err) = (Buffer::default(), Buffer::default());
    let stdout: Box<dyn Write + Send> =
        if setup.broken_stdout { Box::new(Broken) } else { Box::new(out.clone()) };
    let rest: Box<dyn io::Read + Send> =
        if setup.broken_input { Box::new(Broken) } else { Box::new(io::empty()) };
    let input = io::Read::chain(io::Cursor::new(setup.input), rest);
    let input = Box::new(io::BufReader::new(input));
    let term =
        cli::Terminal { stdin: setup.terminal, columns: setup.columns, ..Default::default() };
    let ui = cli::Ui::new(stdout, Box::new(err.clone()), input, term);
    let vars: BTreeMap<_, _> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let cwd = setup.cwd.unwrap_or_else(|| "/nonexistent".into());
    let (clock, rng) = (rt::Clock::manual(0), rt::Rng::seeded(1));
    let mut env = cli::CliEnv { vars, cwd, clock, rng, ui };
    let code = cli::run(&cli.global, cli.command, cli::command(), &mut env).await;
    Ran { code, out: out.text(), err: err.text(), asked: String::new() }
}

pub(crate) const ID: &str = "3d8d413b29d089";

fn machine(id: &str, name: &str, state: &str) -> Value {
    let exit = json!({"exit_code": 3, "guest_exit_code": 3, "guest_signal": 0, "oom_killed": false,
        "requested_stop": false, "restarting": false, "signal": 0, "exited_at": "2026-11-20T10:00:01.000Z"});
    json!({
        "id": id, "name": name, "state": state, "region": "here",
        "image_ref": {"registry": "local", "repository": "web", "tag": "1", "digest": "sha256:aa11"},
        "instance_id": "01J00000000000000000000001", "version": "01J00000000000000000000001",
        "private_ip": "fdaa:0:1:0:1:0:0:2", "host_status": "ok", "isolation": "tcg",
        "created_at": "2026-11-20T10:00:00.000Z", "updated_at": "2026-11-20T10:00:01.000Z",
        "config": {"image": "web:1", "env": {"A": "1"},
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
            "metadata": {"fly_process_group": "app"},
            "services": [{"protocol": "tcp", "internal_port": 8080,
                "ports": [{"port": 80, "handlers": ["http"]}]}]},
        "events": [
            {"id": "01J2", "type": "exit", "status": "stopped", "source": "flyd",
             "timestamp": 1795219705123i64, "request": {"exit_event": exit}},
            {"id": "01J1", "type": "launch", "status": "created", "source": "user",
             "timestamp": 1795219700000i64}],
        "checks": [{"name": "alive", "status": "passing", "output": "ok",
            "updated_at": "2026-11-20T10:00:01.000Z"}]
    })
}

/// A machine that came from a template, was suspended, resumed and suspended.
fn asleep() -> Value {
    let mut asleep = machine("asleep", "three", "suspended");
    let event = |kind: &str, status: &str, request: Value| {
        json!({"id": "01J3", "type": kind, "status": status, "source": "proxy",
            "timestamp": 1795219705123i64, "request": request})
    };
    asleep["config"]["init"] = json!({"on_resume": ["/bin/sh", "-c", "date"]});
    asleep["events"] = json!([
        event(
            "suspend",
            "suspended",
            json!({"stages_ms": {"pause": 1.26, "save": 112.4},
            "reason": "idle for 300 s"})
        ),
        event(
            "start",
            "started",
            json!({"origin": "resumed", "resumed": true,
            "stages_ms": {"resume": 9.96, "total": 31.0}})
        ),
        event("start", "started", json!({"origin": "template", "resumed": false})),
        event("start", "started", json!({"origin": "cold", "reason": "no template of 4x1024"})),
    ]);
    asleep
}

/// A machine that runs and whose check fails.
fn unhealthy(id: &str) -> Value {
    let mut unhealthy = machine(id, "one", "started");
    unhealthy["checks"][0]["status"] = json!("critical");
    unhealthy
}

/// A machine that is not like others: containers, labels, a command.
fn worker() -> Value {
    let mut worker = machine("worker", "four", "started");
    worker["config"]["auto_destroy"] = json!(true);
    worker["config"]["init"] = json!({"exec": ["/bin/release"], "cmd": ["migrate"]});
    worker["config"]["image"] = json!("registry.example/web:1");
    worker["region"] = json!("there");
    worker
}

fn app(name: &str) -> Value {
    json!({
        "id": "app_1", "name": name, "status": "deployed", "network": "default",
        "organization": {"name": "Personal", "slug": "personal", "internal_numeric_id": 1},
        "internal_numeric_id": 1, "machine_count": 2, "volume_count": 0,
        "hostname": "web.localhost:8080"
    })
}

fn image() -> Value {
    json!({"references": ["web:1"], "digest": "sha256:aa11", "size": 30_000_000,
        "created_at": "2026-11-20T10:00:00.000Z", "used_by": 1})
}

fn refuse(status: u16, error: &str, hint: Option<&str>) -> Response {
    let body = json!({"error": error, "status": "unknown", "hint": hint});
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("fly-request-id", "01REQ")], axum::Json(body)).into_response()
}

async fn answer(log: Buffer, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let token = parts.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    if token.as_deref() != Some("Bearer t0ken") {
        return refuse(401, "The token is not known", None);
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let shown = match parts.headers.get("content-type").map(|v| v.as_bytes()) {
        Some(b"application/x-tar") => format!(" <{}>", tar_names(&body)),
        _ => format!(" {}", String::from_utf8_lossy(&body)),
    };
    writeln!(log.clone(), "{method} {path}{query}{}", shown.trim_end()).unwrap();
    if let Ok(upgrade) = upgrade {
        return upgrade.on_upgrade(move |socket| exec(log, socket));
    }
    let rest: Vec<_> = path.trim_start_matches("/v1/").split('/').collect();
    let resumed = parts.headers.contains_key("last-event-id");
    let logs_followed = log.text().contains("/logs?follow=true&instance=slow");
    match rest.as_slice() {
        // Its check passes once someone waits for the lines of its log.
        ["apps", _, "machines", "slow"] if !logs_followed => ok(unhealthy("slow")),
        ["apps", app, "machines", rest @ ..] => {
            machines(&method, (app, rest), &query, &body, resumed)
        }
        rest => others(&method, rest, &query, &body),
    }
}

fn ok(value: Value) -> Response {
    axum::Json(value).into_response()
}

fn others(method: &Method, path: &[&str], query: &str, body: &Bytes) -> Response {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    match (method.as_str(), path) {
        ("GET", ["apps"]) => ok(json!({"total_apps": 1, "apps": [app("web")]})),
        ("POST", ["apps"]) if sent["app_name"] == "taken" => {
            refuse(422, "Validation failed: Name has already been taken", None)
        }
        ("POST", ["apps"]) => {
            let made = axum::Json(json!({"id": "app_1", "created_at": 1}));
            (StatusCode::CREATED, made).into_response()
        }
        (_, ["apps", "gone" | "updraft-interactive-shells", ..]) if sent.is_null() => {
            refuse(404, &format!("Could not find App {:?}", path[1]), None)
        }
        ("GET", ["apps", _, "logs"]) => logs(),
        ("GET", ["apps", _, "secrets"]) => ok(secrets(7)),
        ("POST", ["apps", _, "secrets"]) if sent["values"].get("1A").is_some() => {
            refuse(400, "values.1A: must be a name for an environment variable", None)
        }
        ("POST", ["apps", _, "secrets"]) => ok(secrets(8)),
        ("GET", ["apps", _, "secretkeys"]) => ok(json!({"secret_keys": [
            {"name": "cookies", "type": "hs256"},
            {"name": "sig", "type": "nacl_sign", "public_key": "aGk="}]})),
        ("POST", ["apps", _, "secretkeys", _, "sign"]) => ok(json!({"signature": "c2ln"})),
        ("POST", ["apps", _, "secretkeys", _, "verify"]) if sent["signature"] == "c2ln" => {
            StatusCode::NO_CONTENT.into_response()
        }
        ("POST", ["apps", _, "secretkeys", _, "verify"]) => {
            refuse(400, "the signature is not that of the message", None)
        }
        ("POST", ["apps", _, "secretkeys", _, "encrypt"]) => ok(json!({"ciphertext": "Y2lwaGVy"})),
        ("POST", ["apps", _, "secretkeys", _, "decrypt"]) => ok(json!({"plaintext": "aGk="})),
        ("POST" | "DELETE", ["apps", _, "secretkeys", ..]) => ok(json!({"version": 2})),
        ("GET", ["apps", name]) => ok(app(name)),
        ("DELETE", ["apps", _]) => StatusCode::ACCEPTED.into_response(),
        ("GET", ["platform", "hosts"]) => hosts(),
        ("GET", ["platform", "regions"]) => regions(),
        ("GET", ["platform", "host-names"]) => ok(json!({"address": "127.0.0.43", "port": 443,
            "names": ["api.fly.io", "api.machines.dev"],
            "ca_certificate": "-----BEGIN CERTIFICATE-----\n"})),
        ("POST", ["platform", "placements"]) if sent["region"] == "full" => {
            ok(json!({"regions": []}))
        }
        ("POST", ["platform", "placements"]) => ok(json!({"regions": [
            {"region": "here", "count": 3, "concurrency": 2},
            {"region": "there", "count": 1, "concurrency": 1}]})),
        ("GET", ["tokens", "current"]) => ok(json!({"tokens": []})),
        ("GET", ["orgs"]) => ok(json!({"orgs": [org("personal"), org("acme")]})),
        ("POST", ["orgs"]) => ok(org("acme")),
        ("GET", ["orgs", "gone"]) => refuse(404, "there is no organization \"gone\"", None),
        ("GET", ["orgs", slug]) => ok(org(slug)),
        ("GET", ["orgs", _, "members"]) => ok(json!({"members": []})),
        ("POST", ["orgs", _, "members"]) => ok(sent),
        ("DELETE", ["orgs", ..]) => StatusCode::NO_CONTENT.into_response(),
        ("GET", ["images"]) => ok(json!([image()])),
        ("POST", ["images", "import"]) => {
            let step = json!({"type": "step", "name": "layer aa11", "done": 1500, "total": 1500});
            let done = json!({"type": "done", "image": image()});
            format!("{step}\n{done}\n").into_response()
        }
        ("DELETE", ["images"]) if query.contains("web") => ok(json!({"ok": true})),
        ("DELETE", ["images"]) => refuse(404, "There is no such image", None),
        _ => refuse(400, "the fake does not know this call", None),
    }
}

fn secrets(version: u64) -> Value {
    let secret = |name: &str, since: u64, scope: Value| {
        json!({"name": name, "digest": "00aa11bb22cc33dd", "since_version": since,
            "created_at": "2026-11-20T10:00:00.000Z", "updated_at": "2026-11-20T10:00:01.000Z",
            "scope": scope})
    };
    let all = [
        secret("OLD", 0, Value::Null),
        secret("NEW", 7, Value::Null),
        secret("QUEUE", 7, json!({"group": "worker"})),
    ];
    json!({"secrets": all, "version": version})
}

fn hosts() -> Response {
    ok(json!([
        {"host": 0, "region": "here", "accelerator": "kvm", "hypervisor": "8.2.2", "cpus": 4,
            "memory_mib": 4096, "memory_reserved_mib": 5120, "memory_used_mib": 731,
            "overcommit": 2.0, "templates": ["1x256", "2x512"],
            "machines": {"started": 20, "stopped": 0, "suspended": 3}},
        // A host of an earlier version.
        {"host": 1, "region": "there", "accelerator": "tcg", "hypervisor": "", "cpus": 2,
            "memory_mib": 2048, "memory_reserved_mib": 0, "machines": {}}]))
}

fn regions() -> Response {
    let region = |code: &str, capacity: u64| {
        json!({"code": code, "name": code, "latitude": 0.0, "longitude": 0.0,
            "gateway_available": false, "requires_paid_plan": false, "deprecated": code == "old",
            "capacity": capacity, "geo_region": "", "mpg_available": false})
    };
    ok(json!({"Regions": [region("here", 12), region("old", 0)], "Nearest": "here"}))
}

fn org(slug: &str) -> Value {
    json!({"id": slug, "name": slug.to_uppercase(), "slug": slug, "type": "SHARED",
        "internal_numeric_id": 1})
}

/// One event of a watch, and a gap before it.
fn watched() -> Response {
    let event = json!({"id": "01J3", "type": "start", "status": "started", "source": "user",
        "timestamp": 1795219705123i64, "app_name": "web", "machine_id": ID,
        "machine_name": "one", "region": "here"});
    let gap = json!({"host": 3, "message": "events of host 3 may be missing"});
    let text = format!("event: gap\ndata: {gap}\n\n: still here\n\nid: 0.7\ndata: {event}\n\n");
    ([("content-type", "text/event-stream")], text).into_response()
}

fn checks() -> Value {
    json!([
        {"name": "alive", "type": "http", "kind": "liveness", "status": "critical",
            "output": "no database", "updated_at": "2026-11-20T10:00:01.000Z", "passes": 0,
            "failures": 3, "last_run": {"at": "2026-11-20T10:00:02.000Z", "took_ms": 1.5,
                "passed": false, "request": "GET http://172.30.0.2:80/",
                "response": "HTTP/1.1 500 Internal Server Error\n\nno database"}},
        {"name": "ready", "type": "tcp", "kind": "readiness", "status": "warning",
            "output": "waiting for status update", "updated_at": "2026-11-20T10:00:01.000Z",
            "passes": 0, "failures": 0}])
}

fn machines(
    method: &Method,
    (app, path): (&str, &[&str]),
    query: &str,
    body: &Bytes,
    resumed: bool,
) -> Response {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    match (method.as_str(), path) {
        ("GET", []) if app == "empty" => ok(json!([])),
        ("GET", []) => {
            let (one, two) = (machine(ID, "one", "started"), "3d8d413b29d08a");
            let gone = app == "half-gone";
            let two = machine(two, "two", if gone { "destroyed" } else { "stopped" });
            ok(json!([one, two]))
        }
        ("POST", []) if sent["config"]["image"] == "missing" => {
            let hint = "`updraft image list` shows the images";
            refuse(404, "There is no image \"missing\"", Some(hint))
        }
        ("POST", []) if sent["config"]["image"] == "crasher" => {
            ok(machine("crasher", "one", "created"))
        }
        ("POST", []) if sent["config"]["image"] == "looper" => {
            let mut looper = machine("looper", "one", "created");
            looper["events"] = json!([]);
            ok(looper)
        }
        ("POST", []) if sent["config"]["image"] == "warned" => {
            let warned = [("updraft-warning", "checks are not run yet")];
            (warned, axum::Json(machine(ID, "one", "created"))).into_response()
        }
        ("POST", []) => ok(machine(ID, "one", "created")),
        (_, ["dying", ..]) => refuse(409, "It is being destroyed (begun 12 seconds ago)", None),
        ("POST", ["standby", "start"]) => refuse(409, "machine is a standby", None),
        (_, ["broken", ..]) => refuse(500, "disk full", None),
        ("GET", [ID, "lease"]) => {
            let lease = json!({"nonce": "4e9b2a7c01d3f586", "expires_at": 1_795_219_705i64,
                "owner": "ci", "description": "deploy", "version": "01J00000000000000000000001"});
            ok(json!({"status": "success", "data": lease, "nonce": lease["nonce"],
                "expires_at": lease["expires_at"]}))
        }
        ("GET", [_, "lease"]) => refuse(404, "lease not found: it is not leased", None),
        ("DELETE", [ID, "lease"]) => {
            ok(json!({"status": "success", "data": {"ok": true}, "ok": true}))
        }
        ("GET", ["never", "wait"]) => refuse(408, "not in time", None),
        ("GET", [_, "wait"]) => {
            let first = |state: &&str| query.contains(&format!("state={state}"));
            let state = ["started", "suspended"].into_iter().find(first);
            // A started machine does not end again at once, but for one.
            let ends = path[0] == "crasher" && query.contains("from_event_id");
            if query.contains("from_event_id") && query.contains("state=stopped") && !ends {
                return refuse(408, "not in time", None);
            }
            // The machine that was to be suspended runs on.
            let state = if path[0] == "restless" { "started" } else { state.unwrap_or("stopped") };
            ok(json!({"ok": true, "state": state, "version": "v", "event_id": "01J2"}))
        }
        ("POST", [_, "exec"]) if sent["timeout"] == 0 => ok(json!({
            "exit_code": 137, "exit_signal": 9, "stdout": "", "stderr": ""})),
        ("POST", [_, "exec"]) => ok(json!({
            "exit_code": 3, "exit_signal": 0, "stdout": "out\n", "stderr": "err\n"})),
        ("POST", ["asleep", "start"]) => ok(json!({"previous_state": "suspended",
            "migrated": false, "new_host": "", "resumed": true})),
        ("POST", ["stopping", "start"]) => ok(json!({"previous_state": "stopping",
            "migrated": false, "new_host": ""})),
        ("POST", [_, "start"]) => {
            ok(json!({"previous_state": "stopped", "migrated": false, "new_host": ""}))
        }
        ("GET", [_, "events"]) if query.contains("limit=20") => {
            ok(machine(ID, "one", "started")["events"].clone())
        }
        ("GET", [_, "events"]) => ok(json!([])),
        // The second connection is refused, so that a test ends.
        ("GET", [_, "events", "stream"]) if resumed => refuse(404, "it is gone", None),
        ("GET", [_, "events", "stream"]) => watched(),
        ("GET", [_, "metadata"]) => ok(json!({"fly_process_group": "app", "role": "leader"})),
        ("GET", ["worker"]) => ok(worker()),
        ("GET", ["lost"]) => {
            let mut lost = machine("lost", "five", "started");
            lost.as_object_mut().unwrap().remove("config");
            ok(lost)
        }
        ("GET", [_, "checks"]) => ok(checks()),
        ("GET", ["asleep"]) => ok(asleep()),
        ("GET" | "POST", [id]) => ok(machine(id, "one", "started")),
        _ => ok(json!({"ok": true})),
    }
}

fn logs() -> Response {
    let line = |offset: i64, message: &str| {
        let timestamp = 1_795_219_705_123_000_000i64 + offset * 1_000_000;
        json!({"offset": offset, "timestamp": timestamp, "provider": "app", "level": "info",
            "instance": ID, "region": "here", "message": message})
        .to_string()
    };
    format!("{}\n{}\n", line(1, "hello"), line(2, "bell\u{7} rung")).into_response()
}

fn tar_names(body: &Bytes) -> String {
    let mut archive = tar::Archive::new(&body[..]);
    let name = |entry: io::Result<tar::Entry<'_, &[u8]>>| -> io::Result<String> {
        Ok(entry?.path()?.display().to_string())
    };
    let names: io::Result<Vec<_>> = archive.entries().unwrap().map(name).collect();
    names.map_or_else(|_| format!("{} bytes", body.len()), |names| names.join(" "))
}

/// Repeats its input in capitals on stdout, counts it on stderr, then exits with 7.
async fn exec(log: Buffer, mut socket: WebSocket) {
    let mut bytes = 0;
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Text(text) => {
                writeln!(log.clone(), "ws {text}").unwrap();
                let failure = [("nowhere", "not_found"), ("no-program", "not_executable")];
                if let Some((name, status)) = failure.iter().find(|(n, _)| text.contains(n)) {
                    let error = format!("{name}: {}", status.replace('_', " "));
                    let status = format!("command_{status}");
                    let failed = json!({"failed": error, "status": status}).to_string();
                    let _ = socket.send(Message::Text(failed.into())).await;
                    return;
                }
                if text.contains("eof") {
                    break;
                }
            }
            Message::Binary(data) => {
                bytes += data.len();
                let reply = [&[1], data.to_ascii_uppercase().as_slice()].concat();
                let _ = socket.send(Message::Binary(reply.into())).await;
            }
            _ => {}
        }
    }
    let count = [&[2], format!("{bytes} bytes\n").as_bytes()].concat();
    let _ = socket.send(Message::Binary(count.into())).await;
    let end = json!({"exited": {"code": 7, "signal": 0}}).to_string();
    let _ = socket.send(Message::Text(end.into())).await;
}
