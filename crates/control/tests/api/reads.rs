//! What a call costs of the store: nothing is read that is in memory already.

use async_trait::async_trait;
use control::{Config, Platform, Ports, apps, machines, orgs, tokens};
use futures_util::stream::BoxStream;
use host_api::{FixedHosts, Stop};
use model::id::HostId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{
    KeyRange, LeaseId, RangeResult, Revision, Store, StoreError, Txn, TxnResult, WatchBatch,
};
use store_sqlite::SqliteStore;
use testkit::FakeHost;
use wire::machines::{CreateApp, LaunchMachine, MachineConfig};

/// A store that counts its reads.
struct Counting {
    store: SqliteStore,
    reads: AtomicU64,
}

#[async_trait]
impl Store for Counting {
    async fn range(
        &self,
        range: KeyRange,
        at: Option<Revision>,
        limit: Option<usize>,
    ) -> Result<RangeResult, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.store.range(range, at, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.store.txn(txn).await
    }

    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
        self.store.watch(range, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
}

async fn create(platform: &Platform, name: &str) {
    let config = MachineConfig { image: "nginx".into(), ..MachineConfig::default() };
    let (name, config) = (Some(name.to_owned()), Some(config));
    let launch = LaunchMachine { name, config, ..LaunchMachine::default() };
    machines::create(platform, "web", launch).await.unwrap();
}

#[tokio::test]
async fn calls_to_a_machine_and_creates_read_nothing_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (tasks, clock) = (rt::Tasks::new(), rt::Clock::manual(1_700_000_000_000_000_000));
    let path = dir.path().join("global.db");
    let store = SqliteStore::open(&path, clock.clone(), &tasks).unwrap();
    let store = Arc::new(Counting { store, reads: AtomicU64::new(0) });
    let hosts = Arc::new(FixedHosts::new(vec![FakeHost::new(HostId(0), "local").known()]));
    let rng = rt::Rng::seeded(1);
    let ports = Ports { store: store.clone(), hosts, clock, rng, tasks: tasks.clone() };
    let platform = Platform::new(Config::default(), ports);
    platform.start_cache();
    orgs::ensure_default(&platform).await.unwrap();
    tokens::install_admin_token(&platform, HostId(0), "secret").await.unwrap();
    let ask = CreateApp { app_name: "web".into(), ..CreateApp::default() };
    apps::create(&platform, ask).await.unwrap();
    // The first one takes a block of numbers and makes the app deployed.
    create(&platform, "a").await;
    let reads = || store.reads.load(Ordering::SeqCst);
    // Until the tables are filled reads go to the store.
    let mut before = reads();
    for tries in 0.. {
        assert!(tokens::is_valid(&platform, "secret").await.unwrap());
        if reads() == before {
            break;
        }
        assert!(tries < 10_000, "records are not in memory");
        tokio::task::yield_now().await;
        before = reads();
    }
    create(&platform, "b").await;
    machines::get(&platform, "web", "b", false).await.unwrap();
    machines::stop(&platform, "web", "b", Stop::default()).await.unwrap();
    machines::start(&platform, "web", "b").await.unwrap();
    assert_eq!(reads() - before, 0);
    tasks.stop();
}
