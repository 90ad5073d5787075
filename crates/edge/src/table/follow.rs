//! Follows each host's routes: a snapshot, then its changes, again after a gap.

use crate::admission::drain;
use crate::ports::EdgeHost;
use crate::shared::Shared;
use crate::table::writer::TableWriter;
use host_api::{CallContext, HostError, RouteChange, RoutePosition, RouteSubscription};
use model::id::HostId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Changes applied before they are shown. Hosts that never pause must not keep
/// the table from the cores.
const AT_ONCE: usize = 256;
/// How long a host may take to answer with its table.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the edge waits, before it listens, for the hosts it knows.
const FIRST_TABLE: Duration = Duration::from_secs(5);

/// The writer, which the followers of all hosts use in turn.
type Writer = Arc<Mutex<TableWriter>>;

/// Follows all hosts in tasks. Returns once each host that is known now has
/// given its table or failed to, but after a bounded time at the latest.
pub(crate) async fn follow(
    shared: &Arc<Shared>,
    writer: TableWriter,
    mut hosts: watch::Receiver<Vec<EdgeHost>>,
) {
    let writer: Writer = Arc::new(Mutex::new(writer));
    let mut followed: HashMap<HostId, AbortHandle> = HashMap::new();
    let (first, mut asked) = mpsc::channel::<()>(1);
    let now = hosts.borrow_and_update().clone();
    update(shared, &writer, &mut followed, now, Some(&first));
    drop(first);
    // Each follower drops its sender once it has asked for the first time.
    let _ = timeout(FIRST_TABLE, asked.recv()).await;
    let shared_too = shared.clone();
    shared.tasks.spawn_until_stop(async move {
        while hosts.changed().await.is_ok() {
            let now = hosts.borrow_and_update().clone();
            update(&shared_too, &writer, &mut followed, now, None);
        }
    });
}

/// Follows hosts that are new, and forgets those that are gone.
fn update(
    shared: &Arc<Shared>,
    writer: &Writer,
    followed: &mut HashMap<HostId, AbortHandle>,
    hosts: Vec<EdgeHost>,
    first: Option<&mpsc::Sender<()>>,
) {
    followed.retain(|id, follower| {
        let stays = hosts.iter().any(|host| host.id == *id);
        if !stays {
            follower.abort();
            change(shared, writer, |writer| writer.forget_host(*id));
        }
        stays
    });
    for host in hosts {
        followed.entry(host.id).or_insert_with(|| {
            let follower = follow_host(shared.clone(), writer.clone(), host, first.cloned());
            shared.tasks.spawn_until_stop(follower).abort_handle()
        });
    }
}

/// Changes the table and shows the change.
fn change<T>(shared: &Shared, writer: &Writer, change: impl FnOnce(&mut TableWriter) -> T) -> T {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let result = change(&mut writer);
    writer.publish();
    writer.take_stopping().into_iter().for_each(|stop| drain::begin(shared, stop));
    result
}

async fn follow_host(
    shared: Arc<Shared>,
    writer: Writer,
    host: EdgeHost,
    mut first: Option<mpsc::Sender<()>>,
) {
    let host = Arc::new(host);
    let rng = rt::Rng::from_os();
    let pauses = || rt::Backoff::new(Duration::from_millis(5), Duration::from_secs(2));
    let mut backoff = pauses();
    loop {
        let subscription = subscribe(&host).await;
        let progressed = match subscription {
            Ok(subscription) => {
                follow_subscription(&shared, &writer, &host, subscription, &mut first).await
            }
            Err(err) => {
                tracing::warn!(host = %host.id, %err, "cannot follow the host's routes");
                false
            }
        };
        // The edge need not wait for this host any longer.
        first = None;
        if progressed {
            backoff = pauses();
        }
        tokio::time::sleep(backoff.pause(&rng)).await;
    }
}

async fn subscribe(host: &EdgeHost) -> Result<RouteSubscription, HostError> {
    let asked = host.routes.routes(CallContext::edge(SUBSCRIBE_TIMEOUT));
    let too_late = |_| HostError::DeadlineExceeded("the host did not send its routes".into());
    timeout(SUBSCRIBE_TIMEOUT, asked).await.map_err(too_late)?
}

/// Applies a subscription until there is a gap or the end. Says whether there
/// were any changes.
async fn follow_subscription(
    shared: &Shared,
    writer: &Writer,
    host: &Arc<EdgeHost>,
    subscription: RouteSubscription,
    first: &mut Option<mpsc::Sender<()>>,
) -> bool {
    let RouteSubscription { snapshot, mut changes, acknowledge } = subscription;
    let mut stream = Stream { host: host.clone(), position: snapshot.position };
    let start = snapshot.position.generation;
    if !change(shared, writer, |writer| writer.replace(host, snapshot)) {
        tracing::warn!(host = %host.id, "a stale snapshot of the host's routes is ignored");
        return false;
    }
    *first = None;
    // A full queue means that the host has not read earlier acknowledgements;
    // the newest includes them all, and the next change sends it.
    let _ = acknowledge.try_send(start);
    while let Some(next) = changes.recv().await {
        let batch = batch(next, &mut changes);
        let ended = change(shared, writer, |writer| stream.apply(writer, batch));
        let _ = acknowledge.try_send(stream.position.generation);
        if let Err(ended) = ended {
            tracing::warn!(host = %host.id, ?ended, "the host's routes are asked for again");
            break;
        }
    }
    stream.position.generation > start
}

/// `next` and what has piled up behind it, to be shown at once.
fn batch(
    next: (u64, RouteChange),
    changes: &mut mpsc::Receiver<(u64, RouteChange)>,
) -> impl Iterator<Item = (u64, RouteChange)> {
    let piled_up = std::iter::from_fn(|| changes.try_recv().ok());
    std::iter::once(next).chain(piled_up).take(AT_ONCE)
}

/// Why a stream of changes cannot be followed further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// A change before this one is missing.
    Gap(u64),
    /// A newer stream of the host has been seen.
    Stale,
}

/// One host's stream of changes, and how far it has been applied.
#[derive(Debug)]
struct Stream {
    host: Arc<EdgeHost>,
    position: RoutePosition,
}

impl Stream {
    fn apply(
        &mut self,
        writer: &mut TableWriter,
        batch: impl Iterator<Item = (u64, RouteChange)>,
    ) -> Result<(), Ended> {
        for (number, change) in batch {
            if number > self.position.generation + 1 {
                return Err(Ended::Gap(number));
            }
            if number <= self.position.generation {
                continue;
            }
            self.position.generation = number;
            if !writer.apply(&self.host, self.position, change) {
                return Err(Ended::Stale);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{Lab, id, route};

    fn upsert(number: u64) -> (u64, RouteChange) {
        (number, RouteChange::Upsert(Box::new(route(&format!("m{number}")))))
    }

    fn stream(lab: &Lab, generation: u64) -> Stream {
        let position = RoutePosition { host: lab.host.id, epoch: 1, generation };
        Stream { host: lab.host.clone(), position }
    }

    #[tokio::test]
    async fn a_change_from_before_is_passed_over_and_a_gap_ends_it() {
        let mut lab = Lab::new(&[80]);
        let mut stream = stream(&lab, 5);
        let changes = [upsert(4), upsert(6), upsert(8), upsert(9)];
        let ended = stream.apply(&mut lab.writer, changes.into_iter());
        assert_eq!(ended, Err(Ended::Gap(8)));
        assert_eq!(stream.position.generation, 6);
        assert_eq!(lab.machines("web"), ["m6"]);
    }

    #[tokio::test]
    async fn changes_are_shown_though_more_are_waiting() {
        let (to, mut from) = mpsc::channel(3 * AT_ONCE);
        let remove = |n| (n as u64, RouteChange::Remove { machine: id("m") });
        (2..=2 * AT_ONCE).for_each(|n| to.try_send(remove(n)).unwrap());
        assert_eq!(batch(remove(1), &mut from).count(), AT_ONCE);
        assert_eq!(from.len(), AT_ONCE);
        let next = from.try_recv().unwrap();
        assert_eq!(batch(next, &mut from).count(), AT_ONCE);
        assert!(from.is_empty());
    }

    #[tokio::test]
    async fn a_second_stream_of_a_host_ends_the_first() {
        let mut lab = Lab::new(&[80]);
        let (mut old, mut new) = (stream(&lab, 5), stream(&lab, 9));
        new.apply(&mut lab.writer, [upsert(10)].into_iter()).unwrap();
        let remove = (6, RouteChange::Remove { machine: id("m10") });
        assert_eq!(old.apply(&mut lab.writer, [remove].into_iter()), Err(Ended::Stale));
        assert_eq!(lab.machines("web"), ["m10"]);
    }
}
