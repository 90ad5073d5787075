//! Small scripts on one host, and the text they print.
//!
//! A command that succeeds prints nothing; one that fails prints why. Commands
//! that ask for something (`show`, `events`, …) print it.

use crate::daemon::{Daemon, Settings};
use camino::Utf8PathBuf;
use futures_util::StreamExt;
use guest_protocol::Exit;
use host_api::*;
use model::address::MachineNumber;
use model::id::{AppId, Epoch, MachineId, NetworkId, OrgId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use testkit::guest::GuestAction;
use testkit::{Fault, World};
use wire::logs::LogQuery;
use wire::machines::{
    Guest, ImageRef, Init, Machine, MachineConfig, MachineEvent, Restart, Rootfs, Service, Span,
    StopConfig,
};
use wire::secret::Secret;
use wire::secrets::SecretScope;
use worker::Worker;
use worker::ports::Shape;

/// Longer than any test: waits end when what is waited for happens.
const FOREVER_MS: u64 = 3_600_000;

/// The app of all machines.
pub(crate) const APP: AppId = AppId(3);

/// A call of a user, without end.
pub(crate) fn user() -> CallContext {
    let forever = Deadline::within(Duration::from_millis(FOREVER_MS));
    CallContext::new(Caller::Token("test".into()), Source::User, forever)
}

/// A call of the edge, without end.
pub(crate) fn edge() -> CallContext {
    CallContext::edge(Duration::from_millis(FOREVER_MS))
}

pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) settings: Settings,
    pub(crate) daemon: Option<Daemon>,
    ids: BTreeMap<String, MachineId>,
    /// Versions of each machine in the order of their making.
    versions: BTreeMap<String, Vec<String>>,
    out: String,
    _dir: tempfile::TempDir,
}

/// Runs `script` on a fresh host; what it prints has to be `expected`.
pub(crate) fn check(script: &str, expected: expect_test::Expect) {
    check_with(Settings::default(), script, expected);
}

/// The same with other settings.
pub(crate) fn check_with(settings: Settings, script: &str, expected: expect_test::Expect) {
    let mut lab = Lab::new(settings);
    lab.script(script);
    expected.assert_eq(&lab.take());
}

impl Lab {
    pub(crate) fn new(settings: Settings) -> Self {
        // Memory, where there is such: what is synced to a disk here is thrown away.
        let shm = std::path::Path::new("/dev/shm");
        let made = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        Self::at(made.unwrap(), settings)
    }

    /// A lab in `dir`.
    pub(crate) fn at(dir: tempfile::TempDir, settings: Settings) -> Self {
        let path = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        let world = World::new(&path);
        world.images.publish("empty", worker::ports::ImageConfig::default());
        // Templates that usually exist, so that nothing is made beside what a test looks at.
        if settings.templates.is_empty() {
            world.hypervisor.add_template(Shape { vcpus: 1, memory_mib: 256 });
        }
        let daemon = Some(Daemon::start(&world, &settings));
        let (ids, versions) = (BTreeMap::new(), BTreeMap::new());
        Self { world, settings, daemon, ids, versions, out: String::new(), _dir: dir }
    }

    pub(crate) fn id(&self, name: &str) -> MachineId {
        self.ids.get(name).copied().unwrap_or(MachineId::from_random(0xffff))
    }

    fn name(&self, id: &str) -> String {
        let known = self.ids.iter().find(|(_, known)| known.to_string() == id);
        known.map_or_else(|| id.to_owned(), |(name, _)| name.clone())
    }

    pub(crate) fn worker(&self) -> Worker {
        self.daemon.as_ref().expect("a daemon runs").worker()
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.daemon.as_ref().expect("a daemon runs").run(future)
    }

    pub(crate) fn kill(&mut self) {
        self.daemon.take().expect("a daemon runs").kill();
    }

    pub(crate) fn restart(&mut self) {
        // Another stream of chance than the daemon before.
        self.settings.seed += 1;
        self.daemon = Some(Daemon::start(&self.world, &self.settings));
    }

    /// Why a daemon cannot start.
    pub(crate) fn refused_start(&self) -> String {
        let daemon = Daemon::new(&self.world, &self.settings);
        let started = daemon.run(Daemon::try_begin(&self.world, &self.settings, rt::Tasks::new()));
        rt::chain(&started.map(drop).expect_err("the daemon starts"))
    }

    /// One machine as the host shows it.
    pub(crate) fn machine(&self, id: MachineId) -> Machine {
        let worker = self.worker();
        self.run(async { worker.machine(user(), id).await }).unwrap()
    }

    /// All machines that are not destroyed.
    pub(crate) fn machines(&self) -> Vec<Machine> {
        let worker = self.worker();
        self.run(async { worker.machines(user(), MachineFilter::default()).await }).unwrap()
    }

    /// The routes as an edge gets them.
    pub(crate) fn subscribe(&self) -> RouteSubscription {
        let worker = self.worker();
        self.run(async { worker.routes(user()).await }).unwrap()
    }

    /// An edge that applies and acknowledges every change, until the task is aborted.
    pub(crate) fn edge(&self) -> tokio::task::JoinHandle<()> {
        let mut routes = self.subscribe();
        let apply = async move {
            while let Some((generation, _)) = routes.changes.recv().await {
                routes.acknowledge.send(generation).await.unwrap();
            }
        };
        let tasks = rt::Tasks::new();
        self.run(async { vec![tasks.spawn(apply)] }).remove(0)
    }

    /// Changes the database of a daemon that does not run.
    pub(crate) fn sql(&self, sql: &str) {
        let path = self.world.data_dir().join("host.db");
        rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    }

    /// Nothing may be sent to a guest that is paused.
    fn check_untorn(&self) {
        assert!(!self.world.hypervisor.torn(), "a message was sent to a paused guest");
    }

    /// The output since the last take.
    pub(crate) fn take(&mut self) -> String {
        self.check_untorn();
        std::mem::take(&mut self.out)
    }

    pub(crate) fn script(&mut self, script: &str) {
        for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Err(err) = self.command(&words) {
                let mut text = err.to_string();
                for versions in self.versions.values() {
                    for (at, version) in versions.iter().enumerate() {
                        text = text.replace(version, &format!("v{}", at + 1));
                    }
                }
                writeln!(self.out, "{line}: {text}").unwrap();
            }
        }
    }

    fn command(&mut self, words: &[&str]) -> Result<(), HostError> {
        // A daemon is killed only once the test holds no reference to it.
        let held = (words[0] != "kill" && words[0] != "power-cut").then_some(&self.daemon);
        let held = held.and_then(|daemon| daemon.as_ref().map(Daemon::worker));
        let worker = || held.clone().expect("a daemon runs");
        let force = words.contains(&"--force");
        match *words {
            ["create", name, ref rest @ ..] => self.create(name, rest)?,
            ["update", name, ref rest @ ..] => self.update(name, rest)?,
            ["start", name] => {
                let id = self.id(name);
                let start = async { worker().start(user(), id).await };
                if self.run(start)?.resumed {
                    writeln!(self.out, "{name} resumes").unwrap();
                }
            }
            ["suspend", name] => {
                let id = self.id(name);
                self.run(async { worker().suspend(user(), id).await })?;
            }
            ["stop", name, ref rest @ ..] => {
                let id = self.id(name);
                let number = |key: &str| option(rest, key).map(|n| n.parse().unwrap());
                let signal = number("signal").map(|n: u64| n as i32);
                let stop = Stop { signal, timeout_ms: number("timeout") };
                self.run(async { worker().stop(user(), id, stop).await })?;
            }
            ["restart", name, ..] => {
                let id = self.id(name);
                self.run(async { worker().restart(user(), id, Stop::default(), force).await })?;
            }
            ["destroy", name, ..] => {
                let id = self.id(name);
                self.run(async { worker().destroy(user(), id, force).await })?;
            }
            ["signal", name, number] => {
                let (id, number) = (self.id(name), number.parse().unwrap());
                self.run(async { worker().signal(user(), id, number).await })?;
            }
            ["cordon" | "uncordon", name] => {
                let id = self.id(name);
                let cordoned = words[0] == "cordon";
                self.run(async { worker().cordon(user(), id, cordoned).await })?;
            }
            ["label", name, label] => {
                let id = self.id(name);
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                let value = (!value.is_empty()).then(|| value.to_owned());
                let change = ChangeMetadata::Merge([(key.to_owned(), value)].into());
                self.run(async { worker().change_metadata(user(), id, change, None).await })?;
            }
            ["wake", name] => {
                let id = self.id(name);
                let woken = self.run(async { worker().wake(edge(), id).await });
                woken.map_err(|err| HostError::Conflict(format!("{err:?}")))?;
            }
            ["idle", name] => {
                let id = self.id(name);
                let stopped =
                    self.run(async { worker().stop_idle(edge(), id, "no load".into()).await });
                stopped.map_err(|err| HostError::Conflict(format!("{err:?}")))?;
            }
            ["sleep", name] => {
                let id = self.id(name);
                let asleep =
                    self.run(async { worker().suspend_idle(edge(), id, "no load".into()).await });
                asleep.map_err(|err| HostError::Conflict(format!("{err:?}")))?;
            }
            ["wait", name, state] => self.wait(name, state, FOREVER_MS)?,
            ["wait", name, state, ms] => self.wait(name, state, ms.parse().unwrap())?,
            ["listens", name, port] => self.wait_for_port(name, port.parse().unwrap()),
            ["exits", name, count] => self.wait_for_exits(name, count.parse().unwrap()),
            ["tick", span] => self.tick(Span::Text(span.into()).get().unwrap()),
            ["guest", name, ref action @ ..] => {
                assert!(
                    self.world.hypervisor.guest(self.id(name), parse_action(action)),
                    "no guest"
                );
            }
            ["fail-boots", ref faults @ ..] => {
                let fault = |word: &&str| match *word {
                    "final" => Fault::Final,
                    _ => Fault::Transient,
                };
                self.world.hypervisor.fail_boots(faults.iter().map(fault));
            }
            ["fail-suspends"] => self.world.hypervisor.fail_suspends([Fault::Final]),
            ["hold-suspends"] => self.world.hypervisor.hold_suspends(),
            ["release-suspends"] => self.world.hypervisor.release_suspends(),
            ["break", name, what] => self.damage(name, what),
            ["drained", name] => worker().drained(self.id(name)),
            ["forgets", name] => self.wait_until_forgotten(name),
            ["mute-snapshot", name] => self.world.hypervisor.mute(self.id(name)),
            ["mark", name] => drop(self.disk(name).write_at(b"marked", 0).unwrap()),
            ["disk", name] => {
                let mut bytes = [0; 6];
                self.disk(name).read_exact_at(&mut bytes, 0).unwrap();
                let found = if &bytes == b"marked" { "kept" } else { "fresh" };
                writeln!(self.out, "{name}'s disk is {found}").unwrap();
            }
            ["hold-pulls"] => self.world.images.hold_pulls(),
            ["release-pulls"] => self.world.images.release_pulls(),
            ["secrets", version, ref secrets @ ..] => {
                let secrets = secrets.iter().map(|text| self.secret(text)).collect();
                let secrets = AppSecrets { app: APP, version: version.parse().unwrap(), secrets };
                self.run(async { worker().put_secrets(user(), secrets).await })?;
            }
            ["secrets-of", name] => {
                let machine = self.machine(self.id(name));
                let version = machine.secrets_version;
                writeln!(self.out, "{name} has secrets {version:?}").unwrap();
            }
            ["kill"] => self.kill(),
            ["daemon"] => self.restart(),
            ["power-cut"] => {
                self.kill();
                let (sender, receiver) = std::sync::mpsc::channel();
                let world = self.world.clone();
                self.world.hypervisor.outside(async move {
                    world.power_cut().await;
                    sender.send(()).unwrap();
                });
                receiver.recv().unwrap();
            }
            ["show"] => self.show(),
            ["events", name] => self.events(name, 20)?,
            ["events", name, limit] => self.events(name, limit.parse().unwrap())?,
            ["versions", name] => self.show_versions(name)?,
            ["routes"] => self.routes(),
            ["ledger"] => self.ledger(),
            ["logs", name] => self.logs(name, |_| true),
            ["app-logs", name] => self.logs(name, |provider| provider == "app"),
            ["exec", name, ref argv @ ..] => self.exec(name, argv)?,
            ["ps", name] => {
                let id = self.id(name);
                let list = self.run(async { worker().processes(user(), id).await })?;
                for process in list {
                    writeln!(self.out, "{} {}", process.pid, process.command).unwrap();
                }
            }
            ["host"] => {
                let info = self.run(async { worker().info(user()).await })?;
                let (used, all) = (info.memory_reserved_mib, info.memory_mib);
                writeln!(self.out, "memory {used}/{all} {:?}", info.machines).unwrap();
            }
            _ => panic!("no such command: {words:?}"),
        }
        Ok(())
    }

    /// `NAME=value`, for a group `GROUP:NAME=value`, for a machine `@machine:NAME=value`.
    fn secret(&self, text: &str) -> ScopedSecret {
        let (left, value) = text.split_once('=').unwrap();
        let (scope, name) = match left.split_once(':') {
            None => (None, left),
            Some((scope, name)) => (
                Some(match scope.strip_prefix('@') {
                    Some(machine) => SecretScope::Machine(self.id(machine).to_string()),
                    None => SecretScope::Group(scope.to_owned()),
                }),
                name,
            ),
        };
        ScopedSecret { name: name.into(), scope, value: Secret::new(value) }
    }

    /// Follows a machine's log until it has a line with `text`.
    pub(crate) fn wait_for_log(&self, name: &str, text: &str) {
        let (instance, follow) = (Some(self.id(name).to_string()), true);
        let query = LogQuery { instance, follow, ..LogQuery::default() };
        let worker = self.worker();
        self.run(async {
            let mut entries = worker.logs(user(), APP, query).await.unwrap();
            while !entries.next().await.expect("the log is followed").message.contains(text) {}
        });
    }

    /// Returns once no file of a snapshot is left.
    fn wait_until_forgotten(&self, name: &str) {
        let id = self.id(name).to_string();
        self.run(async {
            // Polled: the worker removes real files, and nothing announces that.
            while self.world.ledger().snapshots.contains(&id) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// Waits for what only a suspended machine may keep.
    pub(crate) fn settle_snapshots(&self) {
        let worker = self.worker();
        for (name, id) in &self.ids {
            let machine = self.run(async { worker.machine(user(), *id).await });
            // One that runs may have been resumed, and then its memory is in use.
            let kept = ["suspended", "started"];
            if machine.is_ok_and(|machine| !kept.contains(&machine.state.as_str())) {
                self.wait_until_forgotten(name);
            }
        }
    }

    fn disk(&self, name: &str) -> std::fs::File {
        let dir = self.world.data_dir().join("machines").join(self.id(name).to_string());
        let path = dir.join("scratch.ext4");
        std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    /// Does something bad to a snapshot.
    fn damage(&self, name: &str, what: &str) {
        let dir = self.world.data_dir().join("machines").join(self.id(name).to_string());
        let snapshot = dir.join("suspend");
        match what {
            "all" => std::fs::remove_dir_all(snapshot).unwrap(),
            "manifest" => std::fs::write(snapshot.join("manifest.json"), "{").unwrap(),
            "ram" => std::fs::write(snapshot.join("ram"), "rom").unwrap(),
            "disk" => std::fs::remove_file(dir.join("scratch.ext4")).unwrap(),
            other => panic!("no such damage: {other}"),
        }
    }

    fn create(&mut self, name: &str, rest: &[&str]) -> Result<(), HostError> {
        let create = self.creation(name, rest);
        let worker = self.worker();
        let machine = self.run(async { worker.create(user(), create).await })?;
        self.versions.insert(name.into(), vec![machine.version]);
        Ok(())
    }

    pub(crate) fn creation(&mut self, name: &str, rest: &[&str]) -> CreateMachine {
        let id = match option(rest, "id-of") {
            Some(other) => self.id(other),
            None => MachineId::from_random(self.ids.len() as u64 + 1),
        };
        let config = config(rest);
        let image = self.resolve(&config.image);
        self.ids.entry(name.into()).or_insert(id);
        CreateMachine {
            id,
            epoch: Epoch(1),
            number: MachineNumber::allocated(self.ids.len() as u64).unwrap(),
            app: APP,
            app_name: "web".parse().unwrap(),
            org: OrgId(1),
            org_slug: "personal".parse().unwrap(),
            network: NetworkId(1),
            name: option(rest, "name").unwrap_or(name).parse().unwrap(),
            region: option(rest, "region").map(str::to_owned),
            config,
            image,
            container_images: BTreeMap::new(),
            skip_launch: rest.contains(&"--skip-launch"),
            cordoned: false,
            skip_secrets: rest.contains(&"--skip-secrets"),
            lease: None,
        }
    }

    fn update(&mut self, name: &str, rest: &[&str]) -> Result<(), HostError> {
        let update = self.change(name, rest);
        let worker = self.worker();
        let machine = self.run(async { worker.update(user(), update).await })?;
        self.versions.entry(name.into()).or_default().push(machine.version);
        Ok(())
    }

    fn change(&self, name: &str, rest: &[&str]) -> UpdateMachine {
        let config = config(rest);
        let image = self.resolve(&config.image);
        let current_version = option(rest, "version").map(|n| {
            let number: usize = n.parse().unwrap();
            self.versions[name][number - 1].parse().unwrap()
        });
        UpdateMachine {
            id: self.id(name),
            config,
            image,
            container_images: BTreeMap::new(),
            skip_launch: rest.contains(&"--skip-launch"),
            current_version,
            cordoned: None,
            skip_secrets: false,
            lease: None,
            labels: None,
        }
    }

    /// One request to the daemon as a future that ends when it is acknowledged.
    pub(crate) fn request(
        &mut self,
        command: &str,
    ) -> impl Future<Output = Result<(), HostError>> + 'static {
        enum Request {
            Create(CreateMachine),
            Update(UpdateMachine),
            Other(String, MachineId, bool),
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let request = match *words {
            ["create", name, ref rest @ ..] => Request::Create(self.creation(name, rest)),
            ["update", name, ref rest @ ..] => Request::Update(self.change(name, rest)),
            [verb, name, ..] => {
                let force = words.contains(&"--force");
                Request::Other(verb.into(), self.id(name), force)
            }
            _ => panic!("no request: {command}"),
        };
        let worker = self.worker();
        async move {
            match request {
                Request::Create(create) => worker.create(user(), create).await.map(drop),
                Request::Update(update) => worker.update(user(), update).await.map(drop),
                Request::Other(verb, id, force) => match verb.as_str() {
                    "suspend" => worker.suspend(user(), id).await,
                    "start" => worker.start(user(), id).await.map(drop),
                    "stop" => worker.stop(user(), id, Stop::default()).await,
                    "restart" => worker.restart(user(), id, Stop::default(), force).await,
                    "destroy" => worker.destroy(user(), id, force).await,
                    _ => panic!("no request: {verb}"),
                },
            }
        }
    }

    /// As the control plane would; one that cannot be found is left to `ensure`.
    fn resolve(&self, reference: &str) -> ImageRef {
        let worker = self.worker();
        let found = self.run(async { worker.resolve_image(user(), reference.into()).await });
        found.unwrap_or_else(|_| ImageRef { digest: "sha256:gone".into(), ..ImageRef::default() })
    }

    pub(crate) fn wait(&self, name: &str, state: &str, timeout_ms: u64) -> Result<(), HostError> {
        let states = state.split('|').map(str::to_owned).collect();
        let wanted = WaitFor { states, timeout_ms, ..WaitFor::default() };
        let (worker, id) = (self.worker(), self.id(name));
        self.run(async { worker.wait(user(), id, wanted).await }).map(drop)
    }

    /// Returns once the edge is notified that the port listens.
    fn wait_for_port(&self, name: &str, port: u16) {
        let (worker, id) = (self.worker(), self.id(name));
        self.run(async {
            let mut routes = worker.routes(user()).await.unwrap();
            let ours = |route: &Route| route.machine == id && route.listening.contains(&port);
            while !routes.snapshot.routes.iter().any(ours) {
                routes.changes.recv().await.expect("the route stream is open");
                routes.snapshot = worker.routes(user()).await.unwrap().snapshot;
            }
        });
    }

    /// Returns once the machine has ended so often.
    fn wait_for_exits(&self, name: &str, count: usize) {
        let (worker, id) = (self.worker(), self.id(name));
        self.run(async {
            let mut routes = worker.routes(user()).await.unwrap();
            let exits = |machine: Machine| {
                machine.events.iter().filter(|event| event.kind == "exit").count()
            };
            while exits(worker.machine(user(), id).await.unwrap()) < count {
                routes.changes.recv().await.expect("the route stream is open");
            }
        });
    }

    /// Moves paused time and the clock.
    fn tick(&self, by: Duration) {
        self.run(async {
            // The machine's task has set its timer before time moves.
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            self.settings.clock.advance(by);
            tokio::time::advance(by).await;
        });
    }

    fn show(&mut self) {
        let filter = MachineFilter { include_deleted: true, ..MachineFilter::default() };
        let worker = self.worker();
        let machines = self.run(async { worker.machines(user(), filter).await });
        for machine in machines.unwrap() {
            let name = self.name(&machine.id);
            let versions = self.versions.get(&name);
            let at = versions.and_then(|all| all.iter().position(|v| *v == machine.version));
            write!(self.out, "{name} {}", machine.state).unwrap();
            if let Some(later) = at.filter(|at| *at > 0) {
                write!(self.out, " v{}", later + 1).unwrap();
            }
            if machine.cordoned {
                self.out.push_str(" cordoned");
            }
            let labels = machine.config.and_then(|config| config.metadata.clone());
            for (key, value) in labels.into_iter().flatten() {
                write!(self.out, " {key}={value}").unwrap();
            }
            self.out.push('\n');
        }
    }

    fn events(&mut self, name: &str, limit: usize) -> Result<(), HostError> {
        let (worker, id) = (self.worker(), self.id(name));
        let events = self.run(async { worker.events(user(), id, limit, None).await })?;
        let ordered = events.windows(2).all(|pair| pair[0].id > pair[1].id);
        assert!(ordered, "events are ordered by their ids");
        for event in events {
            writeln!(self.out, "{}", event_line(&event)).unwrap();
        }
        Ok(())
    }

    fn show_versions(&mut self, name: &str) -> Result<(), HostError> {
        let (worker, id) = (self.worker(), self.id(name));
        let versions = self.run(async { worker.versions(user(), id).await })?;
        for version in versions {
            let at = self.versions[name].iter().position(|v| *v == version.version).unwrap();
            let exec = version.user_config.init.and_then(|init| init.exec).unwrap_or_default();
            writeln!(self.out, "v{} {}", at + 1, exec.join(" ")).unwrap();
        }
        Ok(())
    }

    fn routes(&mut self) {
        let worker = self.worker();
        let routes = self.run(async { worker.routes(user()).await }).unwrap();
        for route in routes.snapshot.routes {
            let line = route_line(&self.name(&route.machine.to_string()), &route);
            writeln!(self.out, "{line}").unwrap();
        }
    }

    fn ledger(&mut self) {
        let ledger = self.world.ledger();
        let names = |ids: &[String]| {
            let names: Vec<String> = ids.iter().map(|id| self.name(id)).collect();
            if names.is_empty() { "-".into() } else { names.join(" ") }
        };
        let line = format!(
            "vms: {}; remains: {}; slots: {:?}; dirs: {}\n",
            names(&ledger.running),
            names(&ledger.remains),
            ledger.slots,
            names(&ledger.dirs)
        );
        let line = match ledger.snapshots.is_empty() {
            true => line,
            false => format!("{}; snapshots: {}\n", line.trim(), names(&ledger.snapshots)),
        };
        self.out.push_str(&line);
    }

    fn logs(&mut self, name: &str, is_shown: impl Fn(&str) -> bool) {
        let query = LogQuery { instance: Some(self.id(name).to_string()), ..LogQuery::default() };
        let worker = self.worker();
        let entries: Vec<_> =
            self.run(async { worker.logs(user(), APP, query).await.unwrap().collect().await });
        for entry in entries.iter().filter(|entry| is_shown(&entry.provider)) {
            writeln!(self.out, "[{}] {}", entry.provider, entry.message).unwrap();
        }
    }

    fn exec(&mut self, name: &str, argv: &[&str]) -> Result<(), HostError> {
        let (input, argv): (Vec<&str>, Vec<&str>) = argv.iter().partition(|w| w.starts_with('<'));
        let argv = argv.iter().map(|&word| word.into()).collect();
        let exec = ExecStart { argv, ..ExecStart::default() };
        let (worker, id) = (self.worker(), self.id(name));
        let out = self.run(async {
            let ExecSession { input: inputs, output: mut outputs } =
                worker.exec(user(), id, exec).await?;
            for word in input {
                let bytes = word.as_bytes()[1..].to_vec();
                inputs.send(ExecInput::Data(bytes)).await.unwrap();
                inputs.send(ExecInput::Data(Vec::new())).await.unwrap();
            }
            let mut bytes = Vec::new();
            loop {
                match outputs.recv().await.expect("an end is sent") {
                    ExecOutput::Stdout(some) | ExecOutput::Stderr(some) => bytes.extend(some),
                    end => return Ok((bytes, format!("{end:?}"))),
                }
            }
        });
        let (bytes, end): (Vec<u8>, String) = out?;
        let text = match bytes.len() {
            0..100 => String::from_utf8_lossy(&bytes).trim().to_owned(),
            many => format!("({many} bytes)"),
        };
        writeln!(self.out, "{}", format!("{text} {end}").trim()).unwrap();
        Ok(())
    }
}

pub(crate) fn route_line(name: &str, route: &Route) -> String {
    let mut line = format!("{name} {:?} {:?}", route.state, route.listening).to_lowercase();
    if route.suspended {
        line.push_str(" suspended");
    }
    if route.cordoned {
        line.push_str(" cordoned");
    }
    if let Some(why) = &route.last_failure {
        line.push_str(&format!(" ({why})"));
    }
    line
}

fn event_line(event: &MachineEvent) -> String {
    let mut line = format!("{} by {} -> {}", event.kind, event.source, event.status);
    let Some(request) = &event.request else { return line };
    if let Some(exit) = &request.exit_event {
        line.push_str(&format!(" code={}", exit.exit_code));
        for (shown, word) in [
            (exit.guest_signal != 0, format!("guest_signal={}", exit.guest_signal)),
            (exit.oom_killed, "oom".into()),
            (exit.requested_stop, "requested".into()),
            (exit.restarting, "restarting".into()),
        ] {
            if shown {
                line.push_str(&format!(" {word}"));
            }
        }
    }
    if request.resumed == Some(true) {
        line.push_str(" resumed");
    }
    let cold = request.origin.as_deref() == Some("cold");
    if let Some(why) = request.reason.as_ref().filter(|_| !cold) {
        line.push_str(&format!(" ({why})"));
    }
    line
}

/// The value of `--key=value`.
fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let prefix = format!("--{key}=");
    words.iter().find_map(|word| word.strip_prefix(&prefix))
}

fn config(words: &[&str]) -> MachineConfig {
    let text = |key: &str| option(words, key).map(str::to_owned);
    let number = |key: &str| option(words, key).map(|n| n.parse::<u64>().unwrap());
    let exec = words.iter().filter(|w| !w.starts_with("--")).map(|&w| w.replace('_', " "));
    let flags: BTreeSet<&str> = words.iter().copied().collect();
    MachineConfig {
        image: text("image").unwrap_or("app".into()),
        init: Some(Init {
            exec: Some(exec.collect()),
            swap_size_mb: number("swap"),
            on_resume: text("hook").map(|hook| vec![hook]),
            kernel_args: match flags.contains("--silent") {
                true => Some(vec!["silent".into()]),
                false => text("args").map(|word| vec![word]),
            },
            ..Init::default()
        }),
        schedule: text("schedule"),
        standbys: text("standby-for").map(|of| vec![of]),
        guest: number("memory").map(|mb| Guest { memory_mb: Some(mb as u32), ..Guest::default() }),
        restart: (text("policy").is_some() || number("retries").is_some()).then(|| Restart {
            policy: text("policy"),
            max_retries: number("retries").map(|n| n as u32),
            ..Restart::default()
        }),
        stop_config: text("timeout").map(|timeout| StopConfig {
            timeout: Some(Span::Text(timeout)),
            ..StopConfig::default()
        }),
        rootfs: text("persist")
            .map(|persist| Rootfs { persist: Some(persist), ..Rootfs::default() }),
        services: flags.contains("--services").then(|| vec![Service::default()]),
        auto_destroy: flags.contains("--rm").then_some(true),
        ..MachineConfig::default()
    }
}

fn parse_action(words: &[&str]) -> GuestAction {
    match *words {
        ["exit", code] => {
            GuestAction::Exit(Exit { code: code.parse().unwrap(), ..Exit::default() })
        }
        ["listen", port] => GuestAction::Listen(port.parse().unwrap()),
        ["unlisten", port] => GuestAction::Unlisten(port.parse().unwrap()),
        ["log", ref text @ ..] => GuestAction::Log(text.join(" ")),
        ["api", id, ref text @ ..] => GuestAction::Api(id.parse().unwrap(), text.join(" ")),
        ["api-end", id] => GuestAction::ApiEnd(id.parse().unwrap()),
        ["hide-phase"] => GuestAction::HidePhase,
        ["hang"] => GuestAction::Hang,
        ["crash"] => GuestAction::CrashVm,
        _ => panic!("no such action: {words:?}"),
    }
}
