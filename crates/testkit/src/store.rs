//! The contract of `store::Store`, as a test that every
//! implementation passes.
//!
//! Leases really end here, so the store under test runs on the system's clock
//! and deletes ended leases by itself.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::*;

/// Time after which a watch that stays silent has lost something.
const SILENCE: Duration = Duration::from_secs(30);
/// Ends within the test; long enough to be renewed on a busy machine.
const SHORT_LEASE: Duration = Duration::from_secs(1);

/// Checks a store; `make` makes an empty one.
///
/// # Panics
/// It breaks the contract.
pub async fn conformance(make: impl Fn() -> Arc<dyn Store>) {
    an_empty_store_is_at_revision_0(&*make()).await;
    a_key_remembers_its_history(&*make()).await;
    ranges_are_ordered_limited_and_of_one_moment(&*make()).await;
    comparisons_choose_the_branch(&*make()).await;
    a_transaction_is_all_or_nothing(&*make()).await;
    racing_transactions_have_one_winner(&make()).await;
    invalid_transactions_are_refused(&*make()).await;
    a_watch_misses_and_doubles_nothing(&make()).await;
    a_watch_sees_only_its_range(&*make()).await;
    compaction_forgets_the_past_only(&*make()).await;
    an_ended_lease_takes_its_keys_along(&*make()).await;
    revoked_and_unknown_leases_are_refused(&*make()).await;
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.into(), Bytes::copy_from_slice(value.as_bytes()), None)
}

fn then(ops: Vec<Op>) -> Txn {
    Txn { then: ops, ..Txn::default() }
}

async fn write(store: &dyn Store, ops: Vec<Op>) -> Revision {
    let result = store.txn(then(ops)).await.unwrap();
    assert!(result.succeeded);
    result.revision
}

async fn show(store: &dyn Store, range: KeyRange, at: Option<Revision>) -> String {
    let result = store.range(range, at, None).await.unwrap();
    text(&result.entries)
}

fn text(entries: &[KeyValue]) -> String {
    let word = |kv: &KeyValue| format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value));
    entries.iter().map(word).collect::<Vec<_>>().join(" ")
}

async fn an_empty_store_is_at_revision_0(store: &dyn Store) {
    let result = store.range(KeyRange::prefix("/"), None, None).await.unwrap();
    assert_eq!(result, RangeResult::default());
    let nothing = store.txn(then(vec![Op::Delete(KeyRange::prefix("/"))])).await.unwrap();
    assert_eq!((nothing.succeeded, nothing.revision), (true, 0), "nothing changed");
    let future = store.range(KeyRange::key("/a"), Some(1), None).await;
    assert!(matches!(future, Err(StoreError::Future(1))), "{future:?}");
}

async fn a_key_remembers_its_history(store: &dyn Store) {
    let key = || KeyRange::key("/a");
    let first = write(store, vec![put("/a", "1")]).await;
    let second = write(store, vec![put("/a", "2")]).await;
    assert_eq!((first, second), (1, 2));
    let entry = store.range(key(), None, None).await.unwrap().entries.remove(0);
    assert_eq!((entry.created, entry.modified, entry.version, entry.lease), (1, 2, 2, None));
    let gone = write(store, vec![Op::Delete(key())]).await;
    assert_eq!(show(store, key(), None).await, "");
    write(store, vec![put("/a", "3")]).await;
    let again = store.range(key(), None, None).await.unwrap().entries.remove(0);
    assert_eq!((again.created, again.modified, again.version), (4, 4, 1), "a new life");
    assert_eq!(show(store, key(), Some(first)).await, "/a=1");
    assert_eq!(show(store, key(), Some(second)).await, "/a=2");
    assert_eq!(show(store, key(), Some(gone)).await, "");
}

async fn ranges_are_ordered_limited_and_of_one_moment(store: &dyn Store) {
    for key in ["/b/2", "/a", "/b/10", "/b", "/c", "/b/é", "/b0"] {
        write(store, vec![put(key, "x")]).await;
    }
    assert_eq!(show(store, KeyRange::prefix("/b/"), None).await, "/b/10=x /b/2=x /b/é=x");
    assert_eq!(show(store, KeyRange::key("/b"), None).await, "/b=x");
    let limited = store.range(KeyRange::prefix("/b/"), None, Some(2)).await.unwrap();
    assert!(limited.more);
    assert_eq!(text(&limited.entries), "/b/10=x /b/2=x");
    let last = limited.entries[1].key.clone();
    let end = KeyRange::prefix("/b/").end;
    let rest = KeyRange { start: std::ops::Bound::Excluded(last), end };
    write(store, vec![put("/b/3", "later")]).await;
    let rest = store.range(rest, Some(limited.revision), Some(2)).await.unwrap();
    assert!(!rest.more);
    assert_eq!(text(&rest.entries), "/b/é=x", "as of the first page");
}

async fn comparisons_choose_the_branch(store: &dyn Store) {
    let at = write(store, vec![put("/k", "v")]).await;
    let value = |v: &str| Compare::Value("/k".into(), Bytes::copy_from_slice(v.as_bytes()));
    for (condition, holds) in [
        (Compare::Present("/k".into()), true),
        (Compare::Absent("/k".into()), false),
        (Compare::Absent("/none".into()), true),
        (Compare::Present("/none".into()), false),
        (Compare::Modified("/k".into(), at), true),
        (Compare::Modified("/k".into(), at + 1), false),
        (Compare::Modified("/none".into(), 0), true),
        (value("v"), true),
        (value("w"), false),
    ] {
        let asked = format!("{condition:?}");
        let get = |key: &str| vec![Op::Get(KeyRange::key(key))];
        let both = vec![Compare::Present("/k".into()), condition];
        let txn = Txn { compare: both, then: get("/k"), otherwise: get("/none") };
        let result = store.txn(txn).await.unwrap();
        assert_eq!(result.succeeded, holds, "{asked}");
        assert_eq!(text(&result.gets[0]), if holds { "/k=v" } else { "" }, "{asked}");
        assert_eq!(result.revision, at, "reading is no change");
    }
}

async fn a_transaction_is_all_or_nothing(store: &dyn Store) {
    write(store, vec![put("/a", "1"), put("/b", "1")]).await;
    let unknown = LeaseId::new(4711).unwrap();
    // The second step cannot be done, so the first is not.
    let ops = vec![put("/a", "2"), Op::Put("/b".into(), Bytes::new(), Some(unknown))];
    let refused = store.txn(then(ops)).await;
    assert!(matches!(refused, Err(StoreError::NoLease(lease)) if lease == unknown), "{refused:?}");
    assert_eq!(show(store, KeyRange::prefix("/"), None).await, "/a=1 /b=1");
    let ops = vec![Op::Delete(KeyRange::key("/a")), put("/c", "1"), Op::Get(KeyRange::prefix("/"))];
    let result = store.txn(then(ops)).await.unwrap();
    assert_eq!((result.revision, text(&result.gets[0])), (2, "/b=1 /c=1".into()));
}

async fn racing_transactions_have_one_winner(store: &Arc<dyn Store>) {
    let claim = |n: usize| {
        let store = store.clone();
        async move {
            let compare = vec![Compare::Absent("/name".into())];
            let txn = Txn { compare, then: vec![put("/name", &n.to_string())], otherwise: vec![] };
            store.txn(txn).await.unwrap().succeeded
        }
    };
    let won = futures_util::future::join_all((0..32).map(claim)).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    let result = store.range(KeyRange::key("/name"), None, None).await.unwrap();
    assert_eq!((result.revision, result.entries[0].version), (1, 1));
}

async fn invalid_transactions_are_refused(store: &dyn Store) {
    let large = Op::Put("/k".into(), vec![0; 1024 * 1024 + 1].into(), None);
    for ops in [
        vec![put("/a", "1"), put("/a", "2")],
        vec![put("/a", "1"), Op::Delete(KeyRange::prefix("/"))],
        vec![put("", "1")],
        vec![put(&"k".repeat(1537), "1")],
        vec![large],
    ] {
        let refused = store.txn(then(ops)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(show(store, KeyRange::prefix(""), None).await, "");
}

/// Watches from several revisions while others write; what each watch yields
/// has to be exactly what was written.
async fn a_watch_misses_and_doubles_nothing(store: &Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const WRITES: usize = 25;
    const ALL: u64 = (WRITERS * WRITES) as u64;
    let early = store.watch(KeyRange::prefix("/w/"), 1).await.unwrap();
    let writer = |n: usize| {
        let store = store.clone();
        async move {
            let mut late = None;
            for i in 0..WRITES {
                let value = i.to_string();
                let twice = [format!("/w/{n}/a"), format!("/w/{n}/b")];
                let at = write(&*store, twice.iter().map(|k| put(k, &value)).collect()).await;
                if i == WRITES / 2 {
                    late = Some((store.watch(KeyRange::prefix("/w/"), at).await.unwrap(), at));
                }
            }
            late.unwrap()
        }
    };
    let writers = futures_util::future::join_all((0..WRITERS).map(writer));
    let (late, ()) = futures_util::future::join(writers, check_watch(early, 1, ALL)).await;
    for (watch, from) in late {
        check_watch(watch, from, ALL).await;
    }
    // One that starts behind everything only sees what comes.
    let mut last = store.watch(KeyRange::prefix("/w/"), ALL + 1).await.unwrap();
    let at = write(&**store, vec![put("/w/last", "x")]).await;
    let batch = next(&mut last).await;
    assert_eq!((batch.revision, batch.changes.len()), (at, 1));
}

type Watch = futures_util::stream::BoxStream<'static, Result<WatchBatch, StoreError>>;

async fn next(watch: &mut Watch) -> WatchBatch {
    let item = tokio::time::timeout(SILENCE, watch.next()).await;
    item.expect("the watch lost a change").expect("the watch ended").unwrap()
}

async fn check_watch(mut watch: Watch, from: Revision, all: Revision) {
    let mut latest = BTreeMap::new();
    for expected in from..=all {
        let batch = next(&mut watch).await;
        assert_eq!(batch.revision, expected, "each revision once and in order");
        assert_eq!(batch.changes.len(), 2, "each transaction as one batch");
        for change in batch.changes {
            let Change::Put(kv) = change else { panic!("nothing was deleted") };
            assert_eq!(kv.modified, expected);
            let former = latest.insert(kv.key.clone(), kv.version);
            assert!(former.is_none_or(|former| former + 1 == kv.version), "{kv:?}");
        }
    }
}

async fn a_watch_sees_only_its_range(store: &dyn Store) {
    let mut watch = store.watch(KeyRange::prefix("/in/"), 0).await.unwrap();
    write(store, vec![put("/out", "1")]).await;
    write(store, vec![put("/in/a", "1"), put("/out", "2"), put("/in/b", "1")]).await;
    write(store, vec![Op::Delete(KeyRange::prefix("/"))]).await;
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.changes.len()), (2, 2));
    let batch = next(&mut watch).await;
    let deleted = ["/in/a", "/in/b"].map(|key| Change::Deleted(key.into()));
    assert_eq!((batch.revision, batch.changes), (3, deleted.into()));
}

async fn compaction_forgets_the_past_only(store: &dyn Store) {
    for value in ["1", "2", "3"] {
        write(store, vec![put("/a", value)]).await;
    }
    write(store, vec![put("/b", "1")]).await;
    write(store, vec![Op::Delete(KeyRange::key("/b"))]).await;
    write(store, vec![put("/a", "4")]).await;
    store.compact(5).await.unwrap();
    store.compact(2).await.unwrap();
    assert_eq!(show(store, KeyRange::prefix("/"), Some(5)).await, "/a=3");
    assert_eq!(show(store, KeyRange::prefix("/"), None).await, "/a=4");
    let old = store.range(KeyRange::prefix("/"), Some(4), None).await;
    assert!(matches!(old, Err(StoreError::Compacted(5))), "{old:?}");
    let old = store.watch(KeyRange::prefix("/"), 4).await.err();
    assert!(matches!(old, Some(StoreError::Compacted(5))), "{old:?}");
    let mut watch = store.watch(KeyRange::prefix("/"), 5).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [Change::Deleted("/b".into())]);
    assert_eq!(next(&mut watch).await.revision, 6);
    let future = store.compact(100).await;
    assert!(matches!(future, Err(StoreError::Future(_))), "{future:?}");
}

async fn an_ended_lease_takes_its_keys_along(store: &dyn Store) {
    let lease = store.grant(SHORT_LEASE).await.unwrap();
    let long = store.grant(Duration::from_secs(3600)).await.unwrap();
    assert_ne!(lease, long);
    store.keep_alive(lease).await.unwrap();
    let held = |key: &str, lease| Op::Put(key.into(), Bytes::new(), Some(lease));
    let ops = vec![held("/a", lease), held("/b", lease), held("/c", long), held("/d", lease)];
    let at = write(store, ops).await;
    // Written again without the lease, a key no longer hangs on it.
    write(store, vec![put("/d", "")]).await;
    let mut watch = store.watch(KeyRange::prefix("/"), at + 2).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!(batch.changes, ["/a", "/b"].map(|key| Change::Deleted(key.into())));
    assert_eq!(show(store, KeyRange::prefix("/"), None).await, "/c= /d=");
    let late = store.keep_alive(lease).await;
    assert!(matches!(late, Err(StoreError::NoLease(_))), "{late:?}");
}

async fn revoked_and_unknown_leases_are_refused(store: &dyn Store) {
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    write(store, vec![Op::Put("/a".into(), Bytes::new(), Some(lease))]).await;
    store.revoke(lease).await.unwrap();
    assert_eq!(show(store, KeyRange::prefix("/"), None).await, "");
    for refused in [
        store.revoke(lease).await.err(),
        store.keep_alive(lease).await.err(),
        store.txn(then(vec![Op::Put("/b".into(), Bytes::new(), Some(lease))])).await.err(),
    ] {
        assert!(matches!(refused, Some(StoreError::NoLease(_))), "{refused:?}");
    }
}
