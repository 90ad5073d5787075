//! A running platform for tests, and what tests do with it.

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::blocking::{Client, Response};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub(crate) type Outcome = Result<()>;

/// The program under test: the one just built, or an installed one that the
/// variable names.
fn updraft() -> OsString {
    std::env::var_os("UPDRAFT_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_updraft").into())
}

/// Nothing here takes longer, however busy the machine; a guard, not a measure.
const GUARD: Duration = Duration::from_secs(120);

/// Moves this process, and so all it starts, into a network of its own.
pub(crate) fn enter_own_network() {
    // SAFETY: no other thread runs yet, and no resource of the old namespace is held.
    let entered = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
    entered.expect("make a network namespace");
    sh("ip link set lo up").expect("loopback comes up");
}

/// Runs a command line of the host.
pub(crate) fn sh(line: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", line]).output().context("start sh")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{line}: {}{text}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// What all tests share: the images and one daemon, made when first asked for.
pub(crate) struct Context {
    dir: tempfile::TempDir,
    shared: OnceLock<Platform>,
    images: OnceLock<PathBuf>,
    daemons: AtomicU8,
}

impl Context {
    pub(crate) fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("updraft-e2e.").tempdir().expect("make directory");
        let (shared, images, daemons) = Default::default();
        Self { dir, shared, images, daemons }
    }

    /// Layout directory of the busybox image.
    pub(crate) fn busybox(&self) -> &Path {
        self.images.get_or_init(|| {
            super::images::make_busybox(self.dir.path());
            self.dir.path().join("busybox")
        })
    }

    /// The daemon that most tests share, with the image `busybox:latest`.
    pub(crate) fn shared(&self) -> &Platform {
        self.shared.get_or_init(|| self.own("shared", &[]).expect("the shared daemon starts"))
    }

    /// A daemon of a test's own, with the image; it ends with the value.
    pub(crate) fn own(&self, name: &str, args: &[&str]) -> Result<Platform> {
        self.own_with(name, args, &updraft())
    }

    /// The same, of another program than the one under test.
    pub(crate) fn own_with(&self, name: &str, args: &[&str], program: &OsStr) -> Result<Platform> {
        // All daemons are in one network namespace: each has its own addresses.
        let number = self.daemons.fetch_add(1, Ordering::Relaxed) + 1;
        let (pool, host) = (format!("10.{}.0.0/16", 64 + number), number.to_string());
        let mut own = vec!["--ipv4-pool", &pool, "--host-id", &host];
        own.extend(args);
        let platform = Platform::start(&self.dir.path().join(name), &own, program)?;
        platform.cli(&[
            "image",
            "import",
            &self.busybox().display().to_string(),
            "--name",
            "busybox:latest",
        ])?;
        Ok(platform)
    }

    /// Runs a command of the program under test that needs no daemon.
    pub(crate) fn command(&self, args: &[&str]) -> Result<()> {
        let output = Command::new(updraft()).args(args).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "updraft {args:?}: {text}");
        Ok(())
    }

    /// A fresh directory.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Stops the shared daemon; returns what it left behind.
    pub(crate) fn finish(&self) -> String {
        let Some(platform) = self.shared.get() else { return String::new() };
        if let Err(err) = platform.wait_until_empty() {
            return format!("{err:#}");
        }
        if let Err(err) = platform.down() {
            return format!("{err:#}");
        }
        platform.leftovers()
    }
}

/// A daemon with its own data directory.
pub(crate) struct Platform {
    dir: PathBuf,
    program: Mutex<OsString>,
    /// Where other processes reach its host; empty if nowhere.
    host_api: Mutex<String>,
    args: Vec<String>,
    daemon: Mutex<Option<Running>>,
    http: Client,
}

struct Running {
    child: Child,
    api: String,
    edge: String,
}

impl Platform {
    /// Starts a daemon on free ports; returns once it reports that it is ready.
    pub(crate) fn start(dir: &Path, args: &[&str], program: &OsStr) -> Result<Self> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Self::start_program(dir, &args, program)
    }

    /// A daemon of the program under test with these arguments and no image.
    pub(crate) fn start_plain(dir: &Path, args: &[String]) -> Result<Self> {
        Self::start_program(dir, args, &updraft())
    }

    fn start_program(dir: &Path, args: &[String], program: &OsStr) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let http = Client::builder().timeout(GUARD).pool_max_idle_per_host(0).build()?;
        let args = args.to_vec();
        let program = Mutex::new(program.to_owned());
        let (daemon, host_api) = Default::default();
        let platform = Self { dir: dir.into(), program, host_api, args, daemon, http };
        platform.up()?;
        Ok(platform)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The next start is of the program under test.
    pub(crate) fn switch_to_new(&self) -> Result<()> {
        ensure!(self.daemon().is_none(), "the daemon still runs");
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = updraft();
        Ok(())
    }

    fn command(&self) -> Command {
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new(&*program);
        command.env("UPDRAFT_CONFIG_DIR", self.dir.join("config"));
        command.env("UPDRAFT_DATA_DIR", self.data()).env("NO_COLOR", "1");
        // An earlier program, which has no such setting, ignores the variable.
        command.env("UPDRAFT_TUNNEL", "off");
        command
    }

    /// Starts the daemon again.
    pub(crate) fn up(&self) -> Result<()> {
        let mut command = self.command();
        command.args([
            "up",
            "--api",
            "127.0.0.1:0",
            "--edge",
            "127.0.0.1:0",
            "--accelerator",
            "tcg",
        ]);
        command.args(["--log", "info,updraft=debug", "--autostop-interval", "1s"]);
        let known = Some(self.host_api()).filter(|address| !address.is_empty());
        let mut before = "";
        for arg in &self.args {
            let value = known.as_deref().filter(|_| before == "--host-api").unwrap_or(arg);
            command.arg(value);
            before = arg;
        }
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log"))?;
        // Another start has another port: the config of the last one is stale.
        let _ = std::fs::remove_file(self.dir.join("config/config.toml"));
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut report = BTreeLines::default();
        for line in BufReader::new(stdout).lines() {
            report.take(&line?);
            if report.get("data").is_some() {
                break;
            }
        }
        if report.get("data").is_none() {
            let status = child.wait()?;
            bail!("the daemon ended at once ({status}):\n{}", self.log_tail());
        }
        let of = |name| report.get(name).unwrap_or_default();
        let (api, edge) = (of("api"), of("edge"));
        if let Some(address) = report.get("host-api") {
            // Its peers look for it where it was before.
            *self.host_api.lock().unwrap_or_else(PoisonError::into_inner) = address;
        }
        *self.daemon() = Some(Running { child, api, edge });
        Ok(())
    }

    fn daemon(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the daemon by `signal`; its VMs stay.
    pub(crate) fn end(&self, signal: rustix::process::Signal) -> Result<()> {
        let Some(mut running) = self.daemon().take() else { return Ok(()) };
        rustix::process::kill_process(rustix::process::Pid::from_child(&running.child), signal)?;
        running.child.wait()?;
        Ok(())
    }

    pub(crate) fn kill(&self) -> Result<()> {
        self.end(rustix::process::Signal::KILL)
    }

    /// `updraft down`.
    pub(crate) fn down(&self) -> Result<()> {
        let running = self.daemon().take();
        // Reaps the daemon as soon as it ends, so that no caller waits for a zombie.
        let reaper = running.map(|mut running| std::thread::spawn(move || running.child.wait()));
        let output = self.command().arg("down").output()?;
        if let Some(reaper) = reaper {
            let _ = reaper.join();
        }
        ensure!(output.status.success(), "down: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Where other processes reach its host.
    pub(crate) fn host_api(&self) -> String {
        self.host_api.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn api(&self) -> String {
        self.daemon().as_ref().map_or(String::new(), |running| running.api.clone())
    }

    pub(crate) fn edge(&self) -> String {
        self.daemon().as_ref().map_or(String::new(), |running| running.edge.clone())
    }

    /// Process id of the daemon.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon().as_ref().map_or(0, |running| running.child.id())
    }

    pub(crate) fn token(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("admin-token"));
        text.unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Runs a CLI command; its standard output.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.cli_raw(args)?;
        ensure!(code == 0, "updraft {args:?} ended with {code}:\n{out}{err}");
        Ok(out)
    }

    /// Exit code, standard output, standard error.
    pub(crate) fn cli_raw(&self, args: &[&str]) -> Result<(i32, String, String)> {
        let output = self.command().args(args).stdin(Stdio::null()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// A call of the API: status and body.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value)> {
        let url = format!("{}/v1{path}", self.api());
        let mut request = self.http.request(method, url).bearer_auth(self.token());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send()?;
        let status = response.status();
        let text = response.text()?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A call that has to succeed.
    pub(crate) fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let (status, answer) = self.call(method.clone(), path, body)?;
        ensure!(status.is_success(), "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// A request through the edge to an app.
    pub(crate) fn get(&self, app: &str, path: &str) -> Result<Response> {
        let url = format!("{}{path}", self.edge());
        Ok(self.http.get(url).header("host", format!("{app}.localhost")).send()?)
    }

    /// An app of a test's own; removed with the value.
    pub(crate) fn app<'a>(&'a self, name: &str) -> Result<App<'a>> {
        self.ok(Method::POST, "/apps", Some(json!({"app_name": name, "org_slug": "personal"})))?;
        Ok(App { platform: self, name: name.into() })
    }

    /// Waits until the last machine that is being destroyed is gone.
    pub(crate) fn wait_until_empty(&self) -> Result<()> {
        let begun = std::time::Instant::now();
        loop {
            let hosts = self.ok(Method::GET, "/platform/hosts", None)?;
            let mut empty = true;
            for host in hosts.as_array().context("a list of hosts")? {
                let machines = host["machines"].as_object().context("hosts count machines")?;
                empty &= machines.keys().all(|state| state == "destroyed");
            }
            if empty {
                return Ok(());
            }
            ensure!(begun.elapsed() < GUARD, "machines are left: {hosts}");
            // The API has no call that waits for a whole host.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ids of the machines that have files here.
    pub(crate) fn machine_dirs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data().join("machines")).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until `reached`, for what nothing announces.
    pub(crate) fn until(&self, what: &str, reached: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = std::time::Instant::now();
        while !reached()? {
            ensure!(begun.elapsed() < GUARD, "not reached: {what}\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn tag(&self) -> network_linux::Tag {
        let path = camino::Utf8PathBuf::try_from(self.data()).expect("a path of ours is UTF-8");
        network_linux::Tag::for_data_dir(&path.canonicalize_utf8().unwrap_or(path))
    }

    /// A connection to a guest that is about to listen, made where guests are
    /// reached: in the platform's network namespace.
    pub(crate) fn connect(&self, address: &str, port: u16) -> Result<TcpStream> {
        let namespace = std::fs::File::open(format!("/run/netns/updraft-{}", self.tag()))?;
        let address = (address.to_owned(), port);
        // A thread of its own: a socket stays in the namespace where it was made.
        let connected = std::thread::spawn(move || -> Result<TcpStream> {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
            let begun = std::time::Instant::now();
            loop {
                match TcpStream::connect((address.0.as_str(), address.1)) {
                    Ok(stream) => return Ok(stream),
                    Err(err) if begun.elapsed() > GUARD => return Err(err.into()),
                    // From outside of a guest its `listen` is only seen by connecting.
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        let stream = connected.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        stream.set_read_timeout(Some(GUARD))?;
        Ok(stream)
    }

    /// What is there of this daemon's in the kernel and on disk, without a machine.
    pub(crate) fn leftovers(&self) -> String {
        let data = self.data().display().to_string();
        let mut left = String::new();
        // A zombie whose parent is dead is left to the system's init.
        let processes = format!(
            "ps -eo pid,stat,args | grep '[q]emu-system' | grep -v ' Z' | grep -F '{data}' || true"
        );
        let tag = self.tag();
        let taps = format!(
            "(ip -o link; ip netns exec updraft-{tag} ip -o link 2>/dev/null || true) | \
             grep ': ud{tag}' || true"
        );
        let namespace = format!("ls -d /run/netns/updraft-{tag} 2>/dev/null || true");
        for line in [processes, taps, namespace] {
            left.push_str(&sh(&line).unwrap_or_else(|err| format!("{err:#}")));
        }
        for dir in ["vms", "machines"] {
            let entries = std::fs::read_dir(self.data().join(dir)).into_iter().flatten().flatten();
            entries.for_each(|entry| left.push_str(&format!("{}\n", entry.path().display())));
        }
        left
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Err(err) = self.down() {
            eprintln!("cannot stop a test's daemon: {err:#}");
        }
    }
}

/// The report of a daemon that is ready.
#[derive(Default)]
struct BTreeLines(std::collections::BTreeMap<String, String>);

impl BTreeLines {
    fn take(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            self.0.insert(name.into(), value.into());
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// An app with its machines; destroyed with the value.
pub(crate) struct App<'a> {
    pub(crate) platform: &'a Platform,
    pub(crate) name: String,
}

impl App<'_> {
    /// Creates a machine from `config`, to which the image is added; its id.
    pub(crate) fn create(&self, name: &str, mut config: Value) -> Result<String> {
        if config.get("image").is_none() {
            config["image"] = json!("busybox:latest");
        }
        let body = json!({"name": name, "config": config});
        let path = format!("/apps/{}/machines", self.name);
        let machine = self.platform.ok(Method::POST, &path, Some(body))?;
        Ok(machine["id"].as_str().context("a machine has an id")?.to_owned())
    }

    /// Creates a machine and waits until it is started.
    pub(crate) fn run(&self, name: &str, config: Value) -> Result<String> {
        let id = self.create(name, config)?;
        self.wait(&id, "started")?;
        Ok(id)
    }

    pub(crate) fn path(&self, id: &str, rest: &str) -> String {
        format!("/apps/{}/machines/{id}{rest}", self.name)
    }

    pub(crate) fn get(&self, id: &str, rest: &str) -> Result<Value> {
        self.platform.ok(Method::GET, &self.path(id, rest), None)
    }

    pub(crate) fn post(&self, id: &str, rest: &str, body: Value) -> Result<Value> {
        self.platform.ok(Method::POST, &self.path(id, rest), Some(body))
    }

    pub(crate) fn state(&self, id: &str) -> Result<String> {
        Ok(self.get(id, "")?["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for a state, however many calls it takes.
    pub(crate) fn wait(&self, id: &str, state: &str) -> Result<()> {
        let rest = format!("/wait?state={state}&timeout=60");
        for _ in 0..2 {
            let (status, answer) = self.platform.call(Method::GET, &self.path(id, &rest), None)?;
            if status == StatusCode::REQUEST_TIMEOUT {
                continue;
            }
            ensure!(status.is_success(), "wait for {state}: {status} {answer}\n{}", self.story(id));
            return Ok(());
        }
        bail!("machine did not become {state}\n{}", self.story(id))
    }

    /// Runs a command in the guest: exit code and standard output.
    pub(crate) fn exec(&self, id: &str, command: &[&str]) -> Result<(i64, String)> {
        let answer = self.post(id, "/exec", json!({"command": command, "timeout": 60}))?;
        let code = answer["exit_code"].as_i64().context("exec answers an exit code")?;
        let (out, err) = (&answer["stdout"], &answer["stderr"]);
        Ok((code, format!("{}{}", out.as_str().unwrap_or(""), err.as_str().unwrap_or(""))))
    }

    /// The newest event of a kind.
    pub(crate) fn event(&self, id: &str, kind: &str) -> Result<Value> {
        let events = self.get(id, "/events?limit=50")?;
        let found =
            events.as_array().and_then(|all| all.iter().find(|e| e["type"] == kind).cloned());
        found.with_context(|| format!("no {kind} event in {events}"))
    }

    /// The app's log so far.
    pub(crate) fn logs(&self) -> Result<String> {
        self.platform.cli(&["logs", "-n", "-a", &self.name])
    }

    /// Follows a machine's log until a line with `end` has come.
    pub(crate) fn logs_until(&self, id: &str, end: &str) -> Result<String> {
        let platform = self.platform;
        let url =
            format!("{}/v1/apps/{}/logs?follow=true&instance={id}", platform.api(), self.name);
        let response = platform.http.get(url).bearer_auth(platform.token()).send()?;
        let mut text = String::new();
        for line in BufReader::new(response).lines() {
            let entry: Value = serde_json::from_str(&line?)?;
            text.push_str(&format!("{}\n", entry["message"].as_str().unwrap_or_default()));
            if text.ends_with(end) {
                return Ok(text);
            }
        }
        bail!("the log ended before {end:?}:\n{text}")
    }

    /// What is known of a machine, for a failing test.
    pub(crate) fn story(&self, id: &str) -> String {
        let events = self.get(id, "/events?limit=10").unwrap_or(Value::Null);
        let logs = self.logs().unwrap_or_default();
        format!("events: {events:#}\nlog:\n{logs}\ndaemon:\n{}", self.platform.log_tail())
    }
}

impl Drop for App<'_> {
    fn drop(&mut self) {
        let path = format!("/apps/{}?force=true", self.name);
        if let Err(err) = self.platform.ok(Method::DELETE, &path, None) {
            eprintln!("cannot remove app {}: {err:#}", self.name);
        }
    }
}
