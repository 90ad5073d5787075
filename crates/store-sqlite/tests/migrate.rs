//! A global store as version 1 wrote it, brought to the current layout.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

use model::id::{AppId, Epoch, HostId, OrgId};
use store::records::{self, AppRecord, MachineRecord, NameRecord, TokenRecord};
use store::{KeyRange, Op, Store, Txn};
use store_sqlite::SqliteStore;

/// Keys and values as 776bd7c wrote them: an app `web` with a running machine, a
/// destroyed one and an idempotency key, an app `7` whose name looks like an id,
/// and a leftover of an app that is gone.
const VERSION_1: &[(&str, &str)] = &[
    ("/orgs/personal", r#"{"slug":"personal","name":"Personal","number":1}"#),
    ("/counters/orgs", "1"),
    ("/networks/personal/default", r#"{"number":1}"#),
    ("/counters/networks", "1"),
    ("/counters/apps", "7"),
    (
        "/apps/web",
        r#"{"name":"web","number":3,"org":"personal","network":"default","network_number":1,"created_ms":1700000000000,"deployed":true,"deleting":false,"idempotency_key":"k1"}"#,
    ),
    (
        "/apps/7",
        r#"{"name":"7","number":4,"org":"personal","network":"default","network_number":1,"created_ms":1700000000000,"deployed":false,"deleting":false}"#,
    ),
    ("/idempotency/apps/k1", r#""web""#),
    ("/idempotency/apps/gone", r#""gone""#),
    ("/machine-names/web/front", r#"{"id":"00020000000001"}"#),
    ("/machine-names/7/back", r#"{"id":"00000000000002"}"#),
    ("/machine-names/gone/x", r#"{"id":"00000000000009"}"#),
    ("/machines/00020000000001", r#"{"app":"web","name":"front","claimed_ms":1700000000001}"#),
    ("/machines/00000000000002", r#"{"app":"7","name":"back","claimed_ms":1700000000002}"#),
    ("/machines/00000000000003", r#"{"app":"web","name":"old","claimed_ms":1700000000000}"#),
    ("/machines/00000000000009", r#"{"app":"gone","name":"x","claimed_ms":1700000000000}"#),
    ("/tokens/abc", r#"{"name":"admin","kind":"admin","sha256":"abc"}"#),
];

async fn version_1(dir: &std::path::Path) -> SqliteStore {
    let (clock, tasks) = (rt::Clock::manual(0), rt::Tasks::new());
    let store = SqliteStore::open(&dir.join("global.db"), clock, &tasks).unwrap();
    let put = |(key, value): &(&str, &str)| Op::put(*key, value.as_bytes().to_vec().into());
    let then = VERSION_1.iter().map(put).collect();
    store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    store
}

async fn keys(store: &SqliteStore, prefix: &str) -> Vec<String> {
    let range = store.range(KeyRange::prefix(prefix), None, None).await.unwrap();
    range.entries.into_iter().map(|entry| entry.key).collect()
}

async fn check(store: &SqliteStore) {
    assert_eq!(keys(store, "/machine-names/").await, [""; 0]);
    assert_eq!(keys(store, "/idempotency/").await, [""; 0]);
    assert_eq!(keys(store, "/names/").await, ["/names/3/front", "/names/4/back"]);
    assert_eq!(keys(store, "/idempotency-keys/").await, ["/idempotency-keys/1/k1"]);
    let of_web = ["/app-machines/3/00000000000003", "/app-machines/3/00020000000001"];
    assert_eq!(keys(store, "/app-machines/3/").await, of_web);
    let machines =
        ["/machines/00000000000002", "/machines/00000000000003", "/machines/00020000000001"];
    assert_eq!(keys(store, "/machines/").await, machines);
    let id = "00020000000001".parse().unwrap();
    let key = records::machine_key(id);
    let machine = records::get::<MachineRecord>(store, &key).await.unwrap().unwrap().record;
    assert_eq!((machine.app, machine.owner, machine.epoch), (AppId(3), HostId(2), Epoch(1)));
    assert_eq!((machine.name.as_str(), machine.claimed_ms), ("front", 1_700_000_000_001));
    assert_eq!(machine.number, None, "its host knows the address");
    let name = records::get::<NameRecord>(store, "/names/3/front").await.unwrap().unwrap().record;
    assert_eq!(name.id, id);
    let app = records::get::<AppRecord>(store, "/apps/web").await.unwrap().unwrap().record;
    assert_eq!((app.id, app.role.as_str()), (AppId(3), ""));
    let org = records::get::<records::OrgRecord>(store, "/orgs/personal").await.unwrap();
    assert_eq!(org.unwrap().record.id, OrgId(1));
    let token = records::get::<TokenRecord>(store, "/tokens/abc").await.unwrap().unwrap().record;
    assert_eq!(token.node, None);
}

#[tokio::test]
async fn a_store_of_version_1_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = version_1(dir.path()).await;
    records::migrate(&store).await.unwrap();
    check(&store).await;
    let revision = store.range(KeyRange::key("/x"), None, None).await.unwrap().revision;
    records::migrate(&store).await.unwrap();
    let after = store.range(KeyRange::key("/x"), None, None).await.unwrap().revision;
    assert_eq!(revision, after, "the second time nothing is done");
}

#[tokio::test]
async fn a_migration_that_was_cut_off_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let whole = version_1(dir.path()).await;
    let begun = whole.range(KeyRange::key("/x"), None, None).await.unwrap().revision;
    records::migrate(&whole).await.unwrap();
    let ended = whole.range(KeyRange::key("/x"), None, None).await.unwrap().revision;
    for cut in begun..ended {
        // The store as it was after each of the migration's transactions.
        let dir = tempfile::tempdir().unwrap();
        let (clock, tasks) = (rt::Clock::manual(0), rt::Tasks::new());
        let store = SqliteStore::open(&dir.path().join("global.db"), clock, &tasks).unwrap();
        let then = whole.range(KeyRange::prefix("/"), Some(cut), None).await.unwrap().entries;
        let then = then.into_iter().map(|entry| Op::put(entry.key, entry.value)).collect();
        store.txn(Txn { then, ..Txn::default() }).await.unwrap();
        records::migrate(&store).await.unwrap();
        check(&store).await;
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = version_1(dir.path()).await;
    let then = vec![Op::put(records::SCHEMA, b"99".to_vec().into())];
    store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    let refused = rt::chain(&records::migrate(&store).await.unwrap_err());
    assert!(refused.contains("layout 99"), "{refused}");
}
