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
}

type Work<'a> = BoxFuture<'a, (String, Result<Outcome, Error>)>;
type Listing<'a> = BoxFuture<'a, Result<Vec<String>, Error>>;
type Changes = BoxStream<'static, Result<WatchBatch, StoreError>>;

async fn run<R: Reconciler>(platform: &Platform, reconciler: &R) {
    let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
    let mut in_flight: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
    // Polled beside the work, which may hold what the list waits for.
    let mut listing: Option<Listing<'_>> = None;
    let mut changes: Option<Changes> = None;
    let mut resync = tokio::time::interval(RESYNC);
    resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = begin(platform, reconciler, &mut pending, &mut in_flight);
        tokio::select! {
            _ = resync.tick() => {
                if changes.is_none() {
                    changes = watch::<R>(platform).await;
                }
                listing.get_or_insert_with(|| Box::pin(reconciler.list(platform)));
            }
            listed = end_of(&mut listing) => match listed {
                Ok(items) => items.into_iter().for_each(|item| add(&mut pending, item, Duration::ZERO)),
                Err(err) => tracing::warn!(
                    reconciler = R::NAME, error = %err, "list what to reconcile"
                ),
            },
            batch = next(&mut changes) => match batch {
                Ok(batch) => {
                    for (item, after) in batch.changes.iter().filter_map(|c| reconciler.changed(c)) {
                        add(&mut pending, item, after);
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
    for (item, state) in pending.iter_mut().filter(|(_, state)| !state.in_flight) {
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
    });
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
    let pause = match outcome {
        Ok(Outcome::Done) => {
            pending.remove(&item);
            return;
        }
        Ok(Outcome::Later(pause)) => pause,
        Ok(Outcome::Waiting) => state.backoff.pause(platform.rng()),
        Err(err) => {
            let pause = state.backoff.pause(platform.rng());
            tracing::warn!(reconciler = name, item, error = %err, again_in = ?pause, "reconcile");
            pause
        }
    };
    state.due = Instant::now() + pause;
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

async fn end_of(listing: &mut Option<Listing<'_>>) -> Result<Vec<String>, Error> {
    let Some(list) = listing else { return std::future::pending().await };
    let listed = list.await;
    *listing = None;
    listed
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
    use crate::{Config, World};
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
    async fn work_goes_on_while_a_list_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, clock) = (rt::Tasks::new(), rt::Clock::system());
        let path = dir.path().join("global.db");
        let store = store_sqlite::SqliteStore::open(&path, clock.clone(), &tasks).unwrap();
        let world = World {
            store: Arc::new(store),
            hosts: Arc::new(FixedHosts::new(vec![])),
            clock,
            rng: rt::Rng::seeded(1),
            tasks: tasks.clone(),
        };
        let platform = Platform::new(Config::default(), world);
        let locking = Arc::new(Locking { lock: Mutex::new(()), lists: watch::Sender::new(0) });
        start(&platform, locking.clone());
        let mut lists = locking.lists.subscribe();
        let listed = lists.wait_for(|lists| *lists >= 3);
        assert!(tokio::time::timeout(10 * RESYNC, listed).await.is_ok(), "the list never ends");
        tasks.stop();
    }
}
