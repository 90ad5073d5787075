//! The cache over a real store, whose watch the tests disturb.

use super::*;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use store::records::{self, NameRecord, encode};
use store::{KeyRange, LeaseId, Op, RangeResult, Store, StoreError, Txn, TxnResult};
use store_sqlite::SqliteStore;

const KEY: &str = "/names/1/web";

/// What happens to the next transaction of the watch.
const DELIVERED: u8 = 0;
const MISSED: u8 = 1;
const COMPACTED: u8 = 2;
const SILENT: u8 = 3;

/// A store whose watch can fail.
struct Disturbed {
    store: SqliteStore,
    next: Arc<AtomicU8>,
}

#[async_trait]
impl Store for Disturbed {
    async fn range(
        &self,
        range: KeyRange,
        at: Option<Revision>,
        limit: Option<usize>,
    ) -> Result<RangeResult, StoreError> {
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
        let next = self.next.clone();
        let changes = self.store.watch(range, from).await?;
        let disturbed = stream::unfold(changes, move |mut changes| {
            let next = next.clone();
            async move {
                loop {
                    let batch = changes.next().await?;
                    match next.swap(DELIVERED, Ordering::SeqCst) {
                        DELIVERED => return Some((batch, changes)),
                        COMPACTED => return Some((Err(StoreError::Compacted(1)), changes)),
                        SILENT => std::future::pending().await,
                        _ => {}
                    }
                }
            }
        });
        Ok(disturbed.boxed())
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

struct Lab {
    cache: Arc<RecordsCache>,
    /// The store as the control plane uses it.
    tracked: TrackedStore,
    /// The store as another process uses it.
    store: SqliteStore,
    next: Arc<AtomicU8>,
    tasks: rt::Tasks,
    _dir: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Lab {
    /// A cache that is followed and filled.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = rt::Tasks::new();
        let clock = rt::Clock::manual(0);
        let store = SqliteStore::open(&dir.path().join("global.db"), clock, &tasks).unwrap();
        let next = Arc::new(AtomicU8::new(DELIVERED));
        let disturbed = Arc::new(Disturbed { store: store.clone(), next: next.clone() });
        let cache = Arc::<RecordsCache>::default();
        let tracked = TrackedStore::new(disturbed.clone(), cache.clone());
        assert!(matches!(cache.get::<NameRecord>(KEY).await, Known::Unknown), "it is empty");
        let own = cache.clone();
        tasks.spawn_until_stop(async move {
            follow(&*disturbed, &own, &rt::Rng::seeded(1)).await;
        });
        let lab = Self { cache, tracked, store, next, tasks, _dir: dir };
        lab.reached(0).await;
        lab
    }

    /// Waits until the tables show a revision.
    async fn reached(&self, revision: Revision) {
        let mut applied = self.cache.applied.subscribe();
        applied.wait_for(|at| at.is_some_and(|at| at >= revision)).await.unwrap();
    }

    /// The machine that has the name, by memory alone.
    async fn holder(&self) -> Option<u64> {
        match self.cache.get::<NameRecord>(KEY).await {
            Known::Record(stored) => Some(stored.record.id.to_string().parse().unwrap()),
            Known::Absent => None,
            Known::Unknown => panic!("it is not in memory"),
        }
    }
}

/// A transaction that gives the name to a machine.
fn give(id: u64) -> Txn {
    let id = format!("{id:014}").parse().unwrap();
    Txn { then: vec![Op::put(KEY, encode(&NameRecord { id }))], ..Txn::default() }
}

fn free() -> Txn {
    Txn { then: vec![Op::delete(KEY)], ..Txn::default() }
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_read_of_its_process() {
    let lab = Lab::new().await;
    for id in 1..=30 {
        lab.tracked.txn(give(id)).await.unwrap();
        assert_eq!(lab.holder().await, Some(id));
    }
    lab.tracked.txn(free()).await.unwrap();
    assert_eq!(lab.holder().await, None, "a deleted record leaves");
}

#[tokio::test]
async fn a_write_of_another_process_is_seen_once_the_watch_has_reported_it() {
    let lab = Lab::new().await;
    let revision = lab.store.txn(give(7)).await.unwrap().revision;
    lab.reached(revision).await;
    assert_eq!(lab.holder().await, Some(7));
    // Who has seen the newer state in any answer sees it in memory, too.
    lab.store.txn(give(8)).await.unwrap();
    records::get::<NameRecord>(&lab.tracked, KEY).await.unwrap();
    assert_eq!(lab.holder().await, Some(8));
}

#[tokio::test]
async fn what_the_watch_has_missed_is_read_again() {
    for disturbance in [MISSED, COMPACTED] {
        let lab = Lab::new().await;
        lab.tracked.txn(give(1)).await.unwrap();
        assert_eq!(lab.holder().await, Some(1));
        lab.next.store(disturbance, Ordering::SeqCst);
        lab.store.txn(free()).await.unwrap();
        let other = Txn { then: vec![Op::put("/other", encode(&1))], ..Txn::default() };
        let revision = lab.store.txn(other).await.unwrap().revision;
        lab.reached(revision).await;
        assert_eq!(lab.holder().await, None, "{disturbance}");
        lab.tracked.txn(give(2)).await.unwrap();
        assert_eq!(lab.holder().await, Some(2), "{disturbance}: it is followed again");
    }
}

#[tokio::test]
async fn a_read_that_has_waited_for_a_change_holds_up_no_other() {
    let cache = Arc::<RecordsCache>::default();
    cache.fill(Tables::default(), 1);
    cache.note(2);
    let signal = || {
        let (cache, (done, is_done)) = (cache.clone(), std::sync::mpsc::channel());
        // What a change does while it holds the lock of the tables.
        std::thread::spawn(move || {
            cache.applied.send_replace(Some(2));
            let _ = done.send(());
        });
        is_done.recv_timeout(Duration::from_secs(10))
    };
    let read = cache.read(|_| {
        signal().expect("the signal of a change is not held up");
        true
    });
    let change = async { cache.apply(&WatchBatch { revision: 2, changes: vec![] }) };
    assert!(matches!(tokio::join!(read, change), (Some(true), true)));
}

#[tokio::test(start_paused = true)]
async fn while_the_watch_is_late_reads_go_to_the_store() {
    let lab = Lab::new().await;
    lab.next.store(SILENT, Ordering::SeqCst);
    lab.tracked.txn(give(1)).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(lab.cache.get::<NameRecord>(KEY).await, Known::Unknown));
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_parsed_is_left_to_the_store() {
    let lab = Lab::new().await;
    let broken = Txn { then: vec![Op::put(KEY, encode(&"no record"))], ..Txn::default() };
    lab.tracked.txn(broken).await.unwrap();
    assert!(matches!(lab.cache.get::<NameRecord>(KEY).await, Known::Unknown));
}

#[test]
fn an_app_is_found_by_its_number() {
    let mut tables = Tables::default();
    let put = |tables: &mut Tables, name: &str, id: u32| {
        let value = encode(&serde_json::json!({
            "name": name, "number": id, "org": "personal", "network": "default",
            "network_number": 1, "created_ms": 0, "deployed": false, "deleting": false,
        }));
        let key = records::app_key(name);
        tables.put(&store::KeyValue {
            key,
            value,
            created: 1,
            modified: 1,
            version: 1,
            lease: None,
        });
    };
    let name = |tables: &Tables, id: u32| match tables.app_by_id(AppId(id)) {
        Known::Record(app) => app.record.name.to_string(),
        other => format!("{other:?}"),
    };
    put(&mut tables, "web", 1);
    put(&mut tables, "api", 2);
    assert_eq!((name(&tables, 1), name(&tables, 2)), ("web".into(), "api".into()));
    // Deleted, and made again with the next number.
    tables.apply(&Change::Deleted(records::app_key("web")));
    assert_eq!(name(&tables, 1), "Absent");
    put(&mut tables, "web", 3);
    put(&mut tables, "api", 4);
    let shown = [1, 2, 3, 4].map(|id| name(&tables, id));
    assert_eq!(shown, ["Absent", "Absent", "web", "api"]);
}

#[test]
fn of_a_machine_its_config_is_not_kept() {
    let record = serde_json::json!({
        "app": 1, "name": "a", "owner": 2, "epoch": 3, "number": 4, "claimed_ms": 5,
        "created": true, "instance": null, "config": { "image": "nginx" },
    });
    let ownership: Ownership = serde_json::from_value(record).unwrap();
    assert_eq!((ownership.owner.0, ownership.created), (2, true));
}
