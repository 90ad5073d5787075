//! A systematic walk: the control plane is killed at every call of the store and
//! of the host that an operation makes, and once more while it recovers. Whatever
//! was left half done is finished or undone by the reconcilers.

use control::releases::{self, NewRelease};
use control::{Config, Error, Platform, Ports, apps, machines, orgs, reconcile};
use host_api::{CallContext, ChangeMetadata, FixedHosts, Machines};
use model::id::{AppId, HostId, MachineId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store::records::{self, AppRecord, MachineRecord, NameRecord, Stored};
use store::{Store, Txn};
use store_sqlite::SqliteStore;
use testkit::{CrashPoints, CrashStore, FakeHost};
use wire::machines::{CreateApp, LaunchMachine, MachineConfig};

/// Time for what follows after an answer.
const GRACE: Duration = Duration::from_secs(30);

/// What outlives the control plane.
struct Lab {
    store: Arc<dyn Store>,
    host: FakeHost,
    clock: rt::Clock,
    /// Control planes keep records in memory.
    cached: bool,
    _dir: tempfile::TempDir,
    _tasks: rt::Tasks,
}

impl Lab {
    /// An app `web` with a machine `old`, and an app `empty`.
    async fn new(cached: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = rt::Tasks::new();
        let clock = rt::Clock::manual(1_700_000_000_000_000_000);
        let path = dir.path().join("global.db");
        let store = SqliteStore::open(&path, clock.clone(), &tasks).unwrap();
        let host = FakeHost::new(HostId(0), "local");
        let lab = Self { store: Arc::new(store), host, clock, cached, _dir: dir, _tasks: tasks };
        let platform = lab.start();
        orgs::ensure_default(&platform).await.unwrap();
        create_app(&platform, "web").await.unwrap();
        create_app(&platform, "empty").await.unwrap();
        create(&platform, "web", "old").await.unwrap();
        assert!(platform.tasks().shutdown(GRACE).await);
        lab
    }

    /// A control plane; what an earlier one had in memory is gone.
    fn start(&self) -> Platform {
        self.start_with(CrashPoints::default())
    }

    /// A control plane that is killed at points of its own.
    fn start_with(&self, points: CrashPoints) -> Platform {
        let host = self.host.with_points(points.clone());
        let ports = Ports {
            store: Arc::new(CrashStore::new(self.store.clone(), points)),
            hosts: Arc::new(FixedHosts::new(vec![host.known()])),
            clock: self.clock.clone(),
            rng: rt::Rng::seeded(self.clock.now_ms()),
            tasks: rt::Tasks::new(),
            secrets_key: testkit::secrets_key(),
        };
        let platform = Platform::new(Config::default(), ports);
        if self.cached {
            platform.start_cache();
        }
        platform
    }

    /// Starts again after a crash, and lets the reconcilers do their work.
    async fn recover(&self) -> Platform {
        self.recover_with(CrashPoints::default()).await
    }

    async fn recover_with(&self, points: CrashPoints) -> Platform {
        // What the killed one had sent to the store is carried out before this.
        self.store.txn(Txn::default()).await.unwrap();
        let platform = self.start_with(points);
        for _ in 0..2 {
            reconcile::pass(&platform).await;
            self.clock.advance(Duration::from_secs(121));
        }
        reconcile::pass(&platform).await;
        platform
    }

    async fn list<T: serde::de::DeserializeOwned>(&self, prefix: &str) -> Vec<Stored<T>> {
        records::list(&*self.store, prefix).await.unwrap()
    }

    /// Every machine is owned, every name and record has its machine, every record has
    /// what the host has.
    async fn check_ledger(&self, at: &str) {
        let alive: BTreeSet<MachineId> = self.host.alive().into_iter().collect();
        let names: Vec<Stored<NameRecord>> = self.list(records::NAMES).await;
        let named: BTreeSet<MachineId> = names.iter().map(|name| name.record.id).collect();
        assert_eq!(named, alive, "{at}: each name has a machine, each machine a name");
        let machines: Vec<Stored<MachineRecord>> = self.list(records::MACHINES).await;
        let by_id: BTreeMap<MachineId, MachineRecord> = machines
            .into_iter()
            .map(|m| (m.key[records::MACHINES.len()..].parse().unwrap(), m.record))
            .collect();
        let apps: Vec<Stored<AppRecord>> = self.list(records::APPS).await;
        let apps: BTreeMap<AppId, AppRecord> =
            apps.into_iter().map(|app| (app.record.id, app.record)).collect();
        for id in &alive {
            let record = by_id.get(id).unwrap_or_else(|| panic!("{at}: {id} has no owner"));
            let context = CallContext::control(GRACE);
            let machine = self.host.machine(context, *id).await.unwrap();
            assert!(
                record.created && record.config.as_ref() == machine.config.as_deref(),
                "{at}: {record:?}"
            );
            let instance = record.instance.map(|instance| instance.to_string());
            assert_eq!(instance, Some(machine.instance_id), "{at}: {record:?}");
            assert!(apps[&record.app].deployed, "{at}");
        }
        for record in by_id.values() {
            assert!(apps.contains_key(&record.app), "{at}: {record:?} is of no app");
        }
        assert!(apps.values().all(|app| !app.deleting), "{at}: a deletion is not finished");
    }
}

async fn create_app(platform: &Platform, name: &str) -> Result<(), Error> {
    let ask = CreateApp {
        app_name: name.into(),
        idempotency_key: Some(format!("key-{name}")),
        ..CreateApp::default()
    };
    apps::create(platform, ask).await.map(drop)
}

fn launch(name: &str, image: &str) -> LaunchMachine {
    let config = MachineConfig { image: image.into(), ..MachineConfig::default() };
    LaunchMachine { name: Some(name.into()), config: Some(config), ..LaunchMachine::default() }
}

async fn create(platform: &Platform, app: &str, name: &str) -> Result<(), Error> {
    machines::create(platform, app, launch(name, "nginx")).await.map(drop)
}

/// The operations that take several steps.
const OPERATIONS: [&str; 7] =
    ["create app", "create", "first create", "update", "labels", "destroy", "delete app"];

async fn run(platform: &Platform, operation: &str) -> Result<(), Error> {
    match operation {
        "create app" => create_app(platform, "other").await,
        "create" => create(platform, "web", "new").await,
        "first create" => create(platform, "empty", "new").await,
        "update" => machines::update(platform, "web", "old", launch("", "nginx:2")).await.map(drop),
        "labels" => {
            let change = ChangeMetadata::Merge([("a".to_owned(), Some("1".to_owned()))].into());
            machines::change_metadata(platform, "web", "old", change, None).await
        }
        "destroy" => machines::destroy(platform, "web", "old", true).await,
        "delete app" => apps::request_deletion(platform, "web").await,
        other => panic!("{other}"),
    }
}

/// The effect of an acknowledged operation.
async fn is_done(platform: &Platform, operation: &str) -> bool {
    let image_in = async |app: &str, name: &str| {
        let machine = machines::get(platform, app, name, false).await.ok()?;
        machine
            .config
            .map(|config| (config.image.clone(), config.metadata.clone().unwrap_or_default()))
    };
    let image = async |name: &str| image_in("web", name).await;
    match operation {
        "create app" => apps::get(platform, "other").await.is_ok(),
        "first create" => image_in("empty", "new").await.is_some(),
        "create" => image("new").await.is_some(),
        "update" => image("old").await.is_some_and(|(image, _)| image == "nginx:2"),
        "labels" => image("old").await.is_some_and(|(_, labels)| labels.contains_key("a")),
        "destroy" => image("old").await.is_none(),
        "delete app" => apps::get(platform, "web").await.is_err(),
        other => panic!("{other}"),
    }
}

/// Kills the control plane at the `n`th point of an operation; false if it has
/// fewer.
async fn kill_at(operation: &str, n: u64, again: Option<u64>, cached: bool) -> bool {
    let lab = Lab::new(cached).await;
    let points = CrashPoints::default();
    let platform = lab.start_with(points.clone());
    points.arm(n);
    // What follows after the answer belongs to the operation.
    let to_its_end = async {
        run(&platform, operation).await.unwrap();
        assert!(platform.tasks().shutdown(GRACE).await);
    };
    let at = tokio::select! {
        () = to_its_end => {
            points.disarm();
            None
        }
        // The points stay as they are: no call of a task of the killed one, among them
        // the operation's own and that which fills the cache, continues.
        at = points.crashed() => Some(format!("{operation}, point {n}: {at}")),
    };
    if at.is_none() {
        // What was acknowledged and has come to its end needs no reconciler.
        let acknowledged = format!("{operation}, acknowledged");
        assert!(is_done(&lab.start(), operation).await, "{acknowledged}");
        lab.check_ledger(&acknowledged).await;
    }
    if let Some(again) = again {
        let points = CrashPoints::default();
        points.arm(again);
        tokio::select! {
            _ = lab.recover_with(points.clone()) => {}
            _ = points.crashed() => {}
        }
    }
    let platform = lab.recover().await;
    let place = at.clone().unwrap_or_else(|| operation.to_owned());
    lab.check_ledger(&place).await;
    if at.is_none() {
        assert!(is_done(&platform, operation).await, "{operation} was acknowledged");
    }
    // The same again comes to the same end, whatever was left.
    let repeated = run(&platform, operation).await;
    if let Err(err) = &repeated {
        let expected = [control::Kind::NameTaken, control::Kind::NotFound];
        assert!(expected.contains(&err.kind), "{place}: {err}");
    }
    lab.recover().await;
    assert!(is_done(&platform, operation).await, "{place}");
    lab.check_ledger(&place).await;
    at.is_some()
}

#[tokio::test]
async fn the_control_plane_is_killed_at_every_call() {
    for operation in OPERATIONS {
        let mut n = 1;
        while kill_at(operation, n, None, false).await {
            n += 1;
            assert!(n < 500, "{operation} does not end");
        }
        assert!(n > 5, "{operation} has only {n} points");
    }
}

#[tokio::test]
async fn and_with_records_in_memory() {
    for operation in OPERATIONS {
        let mut n = 1;
        while kill_at(operation, n, None, true).await {
            n += 1;
            assert!(n < 500, "{operation} does not end");
        }
    }
}

#[tokio::test]
async fn many_creates_at_once_are_all_confirmed() {
    let lab = Lab::new(true).await;
    let platform = lab.start();
    let names: Vec<String> = (0..150).map(|n| format!("m{n}")).collect();
    let launches = names.iter().map(|name| {
        let launch = LaunchMachine { skip_launch: Some(true), ..launch(name, "nginx") };
        machines::create(&platform, "web", launch)
    });
    for created in futures_util::future::join_all(launches).await {
        created.unwrap();
    }
    assert!(platform.tasks().shutdown(GRACE).await);
    let records: Vec<Stored<MachineRecord>> = lab.list(records::MACHINES).await;
    let unconfirmed = records.iter().filter(|m| !m.record.created || m.record.instance.is_none());
    assert_eq!((records.len(), unconfirmed.count()), (151, 0));
    let numbers: BTreeSet<_> = records.iter().map(|m| m.record.number.unwrap()).collect();
    assert_eq!(numbers.len(), 151, "no number is given twice");
    lab.check_ledger("150 creates").await;
}

#[tokio::test]
async fn and_again_while_it_recovers() {
    for operation in ["create", "destroy", "delete app"] {
        for n in [3, 6, 9, 12] {
            for again in 1..=12 {
                kill_at(operation, n, Some(again), false).await;
            }
        }
    }
}

/// Kills the control plane at the `n`th point of a request with an idempotency key, and
/// repeats the request at once; false if it has fewer points.
async fn kill_and_repeat(operation: &str, n: u64) -> bool {
    let lab = Lab::new(false).await;
    let points = CrashPoints::default();
    let keyed = |platform: Platform| platform.keyed("test", operation);
    let first = keyed(lab.start_with(points.clone()));
    points.arm(n);
    let killed = tokio::select! {
        done = request(&first, operation) => {
            done.unwrap();
            points.disarm();
            None
        }
        at = points.crashed() => Some(at),
    };
    // What the killed one had sent to the store is carried out before this.
    lab.store.txn(Txn::default()).await.unwrap();
    let place = format!("{operation}, point {n}: {killed:?}");
    let second = keyed(lab.start());
    request(&second, operation).await.unwrap_or_else(|err| panic!("{place}: {err}"));
    let alive = lab.host.alive().len();
    let expected = if operation.contains("create") { 2 } else { 1 };
    assert_eq!(alive, expected, "{place}");
    let updates = lab.host.calls().iter().filter(|call| call.starts_with("update")).count();
    assert!(updates <= 1 || operation != "update", "{place}");
    lab.recover().await;
    assert_eq!(lab.host.alive().len(), expected, "{place}");
    lab.check_ledger(&place).await;
    killed.is_some()
}

/// An operation of a request; creates have no name that would give the machine away.
async fn request(platform: &Platform, operation: &str) -> Result<(), Error> {
    match operation {
        "create" => {
            let launch = LaunchMachine { name: None, ..launch("", "nginx") };
            machines::create(platform, "web", launch).await.map(drop)
        }
        "update" => run(platform, operation).await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_request_with_a_key_is_repeated_after_the_control_plane_was_killed_at_every_call() {
    for operation in ["create", "update"] {
        let mut n = 1;
        while kill_and_repeat(operation, n).await {
            n += 1;
            assert!(n < 500, "{operation} does not end");
        }
        assert!(n > 5, "{operation} has only {n} points");
    }
}

#[tokio::test]
async fn a_release_is_made_once_though_the_control_plane_was_killed_at_every_call() {
    let ask = || NewRelease {
        app: "web".into(),
        definition: serde_json::json!({ "app": "web" }),
        ..NewRelease::default()
    };
    for n in 1.. {
        let lab = Lab::new(false).await;
        let points = CrashPoints::default();
        let keyed = |platform: Platform| platform.keyed("test", "release");
        let first = keyed(lab.start_with(points.clone()));
        points.arm(n);
        let killed = tokio::select! {
            made = releases::create(&first, ask()) => {
                made.unwrap();
                points.disarm();
                None
            }
            at = points.crashed() => Some(at),
        };
        // What the killed one had sent to the store is carried out before this.
        lab.store.txn(Txn::default()).await.unwrap();
        let second = keyed(lab.start());
        let made = releases::create(&second, ask()).await.unwrap().release;
        assert_eq!(made.version, 1, "{killed:?}");
        assert_eq!(releases::list(&second, "web", None).await.unwrap(), [made], "{killed:?}");
        if killed.is_none() {
            assert!(n > 2, "it has only {n} points");
            return;
        }
    }
}
