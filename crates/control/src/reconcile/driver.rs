//! Runs one reconciler. Its items come from the store's watch, which is a hint,
//! and from a slow resync, which is right. An item that fails is tried again after
//! a pause that grows, and never holds up another.

use crate::{Error, Platform};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use rt::Backoff;
use std::collections::BTreeMap;
use std::time::Duration;
use store::{Change, KeyRange, StoreError, WatchBatch};
use tokio::time::Instant;

/// Time between two looks at everything.
const RESYNC: Duration = Duration::from_secs(60);
/// Items that are worked on at once.
const MAX_IN_FLIGHT: usize = 8;
/// Longest work on one item; then it counts as failed.
const ITEM_TIMEOUT: Duration = Duration::from_secs(120);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is nothing left to do.
    Done,
    /// To be looked at again after this time.
    Later(Duration),
    /// Not done yet, without a failure; to be looked at again soon.
    Waiting,
}

pub(super) trait Reconciler: Send + Sync + 'static {
    /// For logs.
    const NAME: &'static str;
    /// Prefix of the records that it watches.
    const PREFIX: &'static str;

    /// All items that there may be something to do for.
    fn list(&self, platform: &Platform) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// The item that a change of a record concerns, and when to look at it.
    fn changed(&self, change: &Change) -> Option<(String, Duration)>;

    /// Does what can be done now for one item.
    fn reconcile(
        &self,
        platform: &Platform,
        item: &str,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send;
}

/// Starts the task of a reconciler.
pub(super) fn start<R: Reconciler>(platform: &Platform, reconciler: R) {
    let own = platform.clone();
    platform.tasks().spawn_until_stop(async move { run(&own, &reconciler).await });
}

struct Pending {
    due: Instant,
    backoff: Backoff,
    in_flight: bool,
    /// A change came while it was in flight: it is looked at again at this time.
    again: Option<Instant>,
}

type Work<'a> = BoxFuture<'a, (String, Result<Outcome, Error>)>;
type Listing<'a> = BoxFuture<'a, (Option<Changes>, Result<Vec<String>, Error>)>;
type Changes = BoxStream<'static, Result<WatchBatch, StoreError>>;

async fn run<R: Reconciler>(platform: &Platform, reconciler: &R) {
    let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
    let mut in_flight: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
    let mut changes: Option<Changes> = None;
    // Polled beside the work, which may hold what the list waits for.
    let mut listing: Option<Listing<'_>> = None;
    let mut resync = tokio::time::interval(RESYNC);
    resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = begin(platform, reconciler, &mut pending, &mut in_flight);
        tokio::select! {
            _ = resync.tick(), if listing.is_none() => {
                listing = Some(Box::pin(list(platform, reconciler, changes.is_none())));
            }
            (watched, items) = listed(&mut listing) => {
                changes = watched.or(changes);
                match items {
                    Ok(items) => items.into_iter().for_each(|item| add(&mut pending, item, Duration::ZERO)),
                    Err(err) => tracing::warn!(
                        reconciler = R::NAME, error = %err, "list what to reconcile"
                    ),
                }
            }
            batch = next(&mut changes) => match batch {
                Ok(batch) => {
                    for (item, after) in batch.changes.iter().filter_map(|c| reconciler.changed(c)) {
                        nudge(&mut pending, item, after);
                    }
                }
                Err(err) => {
                    // The next resync sees what is missed, and watches again.
                    tracing::warn!(reconciler = R::NAME, error = %err, "the watch has ended");
                    changes = None;
                }
            },
            Some((item, outcome)) = in_flight.next(), if !in_flight.is_empty() => {
                finish(platform, R::NAME, &mut pending, item, outcome);
            }
            () = sleep_until(due) => {}
        }
    }
}

/// Begins work on the items that are due. The moment at which the next one is.
fn begin<'a, R: Reconciler>(
    platform: &'a Platform,
    reconciler: &'a R,
    pending: &mut BTreeMap<String, Pending>,
    in_flight: &mut FuturesUnordered<Work<'a>>,
) -> Option<Instant> {
    let now = Instant::now();
    let mut next = None::<Instant>;
    let mut waiting: Vec<_> = pending.iter_mut().filter(|(_, state)| !state.in_flight).collect();
    // The one that is due longest first, so that items that fail again and again do not
    // keep the others from their turn.
    waiting.sort_by_key(|(_, state)| state.due);
    for (item, state) in waiting {
        if state.due > now {
            next = Some(next.map_or(state.due, |next| next.min(state.due)));
        } else if in_flight.len() < MAX_IN_FLIGHT {
            state.in_flight = true;
            let item = item.clone();
            in_flight.push(Box::pin(async move {
                let work =
                    tokio::time::timeout(ITEM_TIMEOUT, reconciler.reconcile(platform, &item));
                let late = || Error::internal(format!("it took longer than {ITEM_TIMEOUT:?}"));
                let outcome = work.await.unwrap_or_else(|_| Err(late()));
                (item, outcome)
            }));
        }
        // Beyond that many the end of one that is in flight begins the next.
    }
    next
}

fn add(pending: &mut BTreeMap<String, Pending>, item: String, after: Duration) {
    let due = Instant::now() + after;
    // One that waits after a failure keeps its pause.
    pending.entry(item).or_insert_with(|| Pending {
        due,
        backoff: Backoff::new(FIRST_RETRY, MAX_RETRY),
        in_flight: false,
        again: None,
    });
}

/// As [`add`], for a change that the work in flight may have come too early for.
fn nudge(pending: &mut BTreeMap<String, Pending>, item: String, after: Duration) {
    match pending.get_mut(&item).filter(|state| state.in_flight) {
        Some(state) => {
            let due = Instant::now() + after;
            state.again = Some(state.again.map_or(due, |again| again.min(due)));
        }
        None => add(pending, item, after),
    }
}

fn finish(
    platform: &Platform,
    name: &str,
    pending: &mut BTreeMap<String, Pending>,
    item: String,
    outcome: Result<Outcome, Error>,
) {
    let Some(state) = pending.get_mut(&item) else { return };
    state.in_flight = false;
    let again = state.again.take();
    let pause = match outcome {
        Ok(Outcome::Done) => {
            pending.remove(&item);
            if let Some(again) = again {
                add(pending, item, again.saturating_duration_since(Instant::now()));
            }
            return;
        }
        Ok(Outcome::Later(pause)) => {
            again.map_or(pause, |again| pause.min(again.saturating_duration_since(Instant::now())))
        }
        Ok(Outcome::Waiting) => state.backoff.pause(platform.rng()),
        Err(err) => {
            let pause = state.backoff.pause(platform.rng());
            tracing::warn!(reconciler = name, item, error = %err, again_in = ?pause, "reconcile");
            pause
        }
    };
    state.due = Instant::now() + pause;
}

/// Everything there may be to do; watches before that, if `unwatched`.
async fn list<R: Reconciler>(
    platform: &Platform,
    reconciler: &R,
    unwatched: bool,
) -> (Option<Changes>, Result<Vec<String>, Error>) {
    let changes = if unwatched { watch::<R>(platform).await } else { None };
    (changes, reconciler.list(platform).await)
}

/// The end of the listing under way.
async fn listed(
    listing: &mut Option<Listing<'_>>,
) -> (Option<Changes>, Result<Vec<String>, Error>) {
    let Some(under_way) = listing else { return std::future::pending().await };
    let done = under_way.await;
    *listing = None;
    done
}

async fn watch<R: Reconciler>(platform: &Platform) -> Option<Changes> {
    let range = KeyRange::prefix(R::PREFIX);
    let started = async {
        let now = platform.store().range(range.clone(), None, Some(1)).await?.revision;
        platform.store().watch(range, now + 1).await
    };
    match started.await {
        Ok(changes) => Some(changes),
        Err(err) => {
            tracing::warn!(reconciler = R::NAME, error = %err, "watch the store");
            None
        }
    }
}

async fn next(changes: &mut Option<Changes>) -> Result<WatchBatch, StoreError> {
    let Some(stream) = changes else { return std::future::pending().await };
    match stream.next().await {
        Some(batch) => batch,
        None => Err(StoreError::Failed("the store has closed it".into())),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Ports};
    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::stream;
    use host_api::FixedHosts;
    use std::sync::{Arc, Mutex};
    use store::{KeyValue, LeaseId, RangeResult, Revision, Store, Txn, TxnResult};
    use tokio::sync::mpsc;

    /// A store whose watch the test feeds.
    struct Watched(Mutex<Option<mpsc::UnboundedReceiver<WatchBatch>>>);

    #[async_trait]
    impl Store for Watched {
        async fn range(
            &self,
            _: KeyRange,
            _: Option<Revision>,
            _: Option<usize>,
        ) -> Result<RangeResult, StoreError> {
            Ok(RangeResult::default())
        }

        async fn txn(&self, _: Txn) -> Result<TxnResult, StoreError> {
            Ok(TxnResult::default())
        }

        async fn watch(
            &self,
            _: KeyRange,
            _: Revision,
        ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
            let changes = self.0.lock().unwrap().take();
            let changes = changes.ok_or(StoreError::Future(0))?;
            Ok(stream::unfold(changes, |mut rest| async move {
                rest.recv().await.map(|batch| (Ok(batch), rest))
            })
            .boxed())
        }

        async fn grant(&self, _: Duration) -> Result<LeaseId, StoreError> {
            Err(StoreError::Future(0))
        }

        async fn keep_alive(&self, _: LeaseId) -> Result<(), StoreError> {
            Ok(())
        }

        async fn revoke(&self, _: LeaseId) -> Result<(), StoreError> {
            Ok(())
        }

        async fn compact(&self, _: Revision) -> Result<(), StoreError> {
            Ok(())
        }
    }

    /// Notes when each item is worked on: `bad` fails, `stuck` never ends, `slow`
    /// takes long, `later` wants a pause, all others are done.
    struct Recorder(Arc<Mutex<Vec<(String, u64)>>>, Instant);

    impl Reconciler for Recorder {
        const NAME: &'static str = "recorder";
        const PREFIX: &'static str = "/x/";

        async fn list(&self, _: &Platform) -> Result<Vec<String>, Error> {
            // From the second time on it takes long.
            if !self.1.elapsed().is_zero() {
                tokio::time::sleep(Duration::from_secs(25)).await;
            }
            Ok(vec!["bad".into(), "stuck".into(), "later".into(), "good".into()])
        }

        fn changed(&self, change: &Change) -> Option<(String, Duration)> {
            let Change::Put(kv) = change else { return None };
            Some((kv.key[Self::PREFIX.len()..].to_owned(), Duration::ZERO))
        }

        async fn reconcile(&self, _: &Platform, item: &str) -> Result<Outcome, Error> {
            let at = self.1.elapsed().as_secs();
            self.0.lock().unwrap().push((item.to_owned(), at));
            match item {
                "bad" => Err(Error::internal("it is bad")),
                "stuck" => std::future::pending().await,
                "slow" => {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    Ok(Outcome::Done)
                }
                "later" => Ok(Outcome::Later(Duration::from_secs(5))),
                _ => Ok(Outcome::Done),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn items_are_woken_by_the_watch_and_never_hold_up_each_other() {
        let (feed, changes) = mpsc::unbounded_channel();
        let tasks = rt::Tasks::new();
        let ports = Ports {
            store: Arc::new(Watched(Mutex::new(Some(changes)))),
            hosts: Arc::new(FixedHosts::new(vec![])),
            clock: rt::Clock::manual(0),
            rng: rt::Rng::seeded(1),
            tasks: tasks.clone(),
            secrets_key: testkit::secrets_key(),
        };
        let platform = Platform::new(Config::default(), ports);
        let seen = Arc::new(Mutex::new(Vec::new()));
        start(&platform, Recorder(seen.clone(), Instant::now()));
        tokio::time::sleep(Duration::from_secs(30)).await;
        let put = |item: &str| {
            let (key, value) = (format!("/x/{item}"), Bytes::new());
            let (created, modified, version) = (1, 1, 1);
            Change::Put(KeyValue { key, value, created, modified, version, lease: None })
        };
        let feed = |changes| feed.send(WatchBatch { revision: 1, changes }).unwrap();
        feed(vec![put("new"), put("slow")]);
        tokio::time::sleep(Duration::from_secs(3)).await;
        feed(vec![put("slow")]);
        tokio::time::sleep(Duration::from_secs(46)).await;
        tasks.stop();
        let seen = seen.lock().unwrap().clone();
        let times = |item: &str| {
            seen.iter().filter(|(of, _)| of == item).map(|(_, at)| *at).collect::<Vec<_>>()
        };
        assert_eq!(times("good"), [0], "once: it is done");
        assert_eq!(times("new"), [30], "at once, long before the next resync");
        assert_eq!(times("slow"), [30, 40], "a change while it is in flight is not lost");
        // Also while everything is being listed, from 60 on.
        assert_eq!(times("later"), (0..16).map(|n| n * 5).collect::<Vec<_>>());
        assert_eq!(times("stuck"), [0], "one at a time");
        let bad = times("bad");
        // It is tried again with growing pauses, not all the time.
        assert!((4..=11).contains(&bad.len()), "{bad:?}");
        let pauses: Vec<u64> = bad.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.last() > pauses.first(), "{pauses:?}");
    }
}

#[cfg(test)]
mod list_tests {
    use super::*;
    use crate::{Config, Ports};
    use host_api::FixedHosts;
    use std::sync::Arc;
    use tokio::sync::{Mutex, watch};

    /// Its work holds for 90 seconds what its list needs, too, as a connection to
    /// a host that is being made.
    struct Locking {
        lock: Mutex<()>,
        lists: watch::Sender<u32>,
    }

    impl Reconciler for Arc<Locking> {
        const NAME: &'static str = "locking";
        const PREFIX: &'static str = "/nothing/";

        async fn list(&self, _platform: &Platform) -> Result<Vec<String>, Error> {
            drop(self.lock.lock().await);
            self.lists.send_modify(|lists| *lists += 1);
            Ok(vec!["item".into()])
        }

        fn changed(&self, _change: &Change) -> Option<(String, Duration)> {
            None
        }

        async fn reconcile(&self, _platform: &Platform, _item: &str) -> Result<Outcome, Error> {
            let _held = self.lock.lock().await;
            tokio::time::sleep(Duration::from_secs(90)).await;
            Ok(Outcome::Done)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_continues_while_a_list_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, clock) = (rt::Tasks::new(), rt::Clock::system());
        let path = dir.path().join("global.db");
        let store = store_sqlite::SqliteStore::open(&path, clock.clone(), &tasks).unwrap();
        let ports = Ports {
            store: Arc::new(store),
            hosts: Arc::new(FixedHosts::new(vec![])),
            clock,
            rng: rt::Rng::seeded(1),
            tasks: tasks.clone(),
            secrets_key: testkit::secrets_key(),
        };
        let platform = Platform::new(Config::default(), ports);
        let locking = Arc::new(Locking { lock: Mutex::new(()), lists: watch::Sender::new(0) });
        start(&platform, locking.clone());
        let mut lists = locking.lists.subscribe();
        let listed = lists.wait_for(|lists| *lists >= 3);
        assert!(tokio::time::timeout(10 * RESYNC, listed).await.is_ok(), "the list never ends");
        tasks.stop();
    }
}

#[cfg(test)]
mod order_tests {
    use super::*;
    use crate::{Config, Ports};
    use host_api::FixedHosts;
    use std::sync::{Arc, Mutex};

    /// Forty items, each of which fails after ten seconds, as at an absent host, and `z`.
    struct Failing(Arc<Mutex<Option<Duration>>>, Instant);

    impl Reconciler for Failing {
        const NAME: &'static str = "failing";
        const PREFIX: &'static str = "/x/";

        async fn list(&self, _: &Platform) -> Result<Vec<String>, Error> {
            Ok((0..40).map(|n| format!("a{n:02}")).chain(["z".to_owned()]).collect())
        }

        fn changed(&self, _: &Change) -> Option<(String, Duration)> {
            None
        }

        async fn reconcile(&self, _: &Platform, item: &str) -> Result<Outcome, Error> {
            if item == "z" {
                self.0.lock().unwrap().get_or_insert(self.1.elapsed());
                return Ok(Outcome::Done);
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            Err(Error::internal("the host is away"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn items_that_fail_do_not_keep_one_with_a_later_name_from_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, clock) = (rt::Tasks::new(), rt::Clock::manual(0));
        let path = dir.path().join("global.db");
        let store = store_sqlite::SqliteStore::open(&path, clock.clone(), &tasks).unwrap();
        let hosts = Arc::new(FixedHosts::new(vec![]));
        let (rng, store) = (rt::Rng::seeded(1), Arc::new(store));
        let secrets_key = testkit::secrets_key();
        let ports = Ports { store, hosts, clock, rng, tasks: tasks.clone(), secrets_key };
        let platform = Platform::new(Config::default(), ports);
        let seen = Arc::default();
        start(&platform, Failing(Arc::clone(&seen), Instant::now()));
        tokio::time::sleep(Duration::from_secs(300)).await;
        tasks.stop();
        let at = seen.lock().unwrap().expect("it had its turn");
        // Forty items, eight at a time.
        assert!(at <= Duration::from_secs(51), "{at:?}");
    }
}
