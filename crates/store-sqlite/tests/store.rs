//! The store passes the contract, keeps what it acknowledged over `kill -9`,
//! and ends leases by the clock it is given.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use store::*;
use store_sqlite::SqliteStore;

fn open(dir: &Path, clock: &rt::Clock) -> SqliteStore {
    SqliteStore::open(&dir.join("global.db"), clock.clone(), &rt::Tasks::new()).unwrap()
}

fn put(key: &str, value: &str, lease: Option<LeaseId>) -> Txn {
    Txn { then: vec![Op::Put(key.into(), value.to_owned().into(), lease)], ..Txn::default() }
}

async fn keys(store: &SqliteStore) -> Vec<String> {
    let all = store.range(KeyRange::prefix("/"), None, None).await.unwrap();
    all.entries.into_iter().map(|kv| kv.key).collect()
}

#[tokio::test]
async fn it_passes_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicUsize::new(0);
    let tasks = rt::Tasks::new();
    let make = || -> Arc<dyn Store> {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = dir.path().join(format!("{n}.db"));
        Arc::new(SqliteStore::open(&path, rt::Clock::system(), &tasks).unwrap())
    };
    testkit::store::conformance(make).await;
    tasks.stop();
}

#[tokio::test]
async fn leases_end_by_the_given_clock_and_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let clock = rt::Clock::manual(0);
    let store = open(dir.path(), &clock);
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    store.txn(put("/a", "", Some(lease))).await.unwrap();
    clock.advance(Duration::from_secs(9));
    store.keep_alive(lease).await.unwrap();
    drop(store);
    let store = open(dir.path(), &clock);
    clock.advance(Duration::from_millis(9_999));
    store.expire_leases().await.unwrap();
    assert_eq!(keys(&store).await, ["/a"]);
    clock.advance(Duration::from_millis(1));
    let late = store.keep_alive(lease).await;
    assert!(matches!(late, Err(StoreError::NoLease(_))), "{late:?}");
    store.expire_leases().await.unwrap();
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn a_write_whose_caller_left_is_announced_all_the_same() {
    use futures_util::StreamExt;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &rt::Clock::system());
    let mut watch = store.watch(KeyRange::prefix("/"), 1).await.unwrap();
    let mut write = Box::pin(store.txn(put("/a", "", None)));
    // Polled once, so it is submitted; then the caller drops it.
    assert!(futures_util::poll!(&mut write).is_pending());
    drop(write);
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.revision, 1);
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
#[ignore = "run by the next test"]
async fn child_that_writes_until_it_is_killed() {
    let store = open(Path::new("."), &rt::Clock::system());
    for n in 0..1_000_000 {
        store.txn(put(&format!("/{n:08}"), "x", None)).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = |line: String| line.split_once("acknowledged ").map(|(_, n)| n.to_owned());
    let wait = lines.by_ref().filter_map(number).nth(50);
    child.kill().unwrap();
    child.wait().unwrap();
    // What it acknowledged before the signal came may still be in the pipe.
    let last = lines.filter_map(number).last().or(wait).unwrap();
    let last: usize = last.parse().unwrap();
    let store = open(dir.path(), &rt::Clock::system());
    let found = keys(&store).await;
    assert!(found.len() > last, "{} keys, {last} was acknowledged", found.len());
    let revision = store.range(KeyRange::prefix("/"), None, Some(1)).await.unwrap().revision;
    assert_eq!(revision, found.len() as u64, "no hole");
}
