//! Follows each host's routes: a snapshot, then its changes, again after a gap.

use crate::admission::drain;
use crate::ports::EdgeHost;
use crate::shared::Shared;
use crate::table::host::FollowedHost;
use crate::table::writer::TableWriter;
use host_api::{CallContext, HostError, RouteChange, RoutePosition, RouteSubscription};
use model::id::HostId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
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
    let mut followed = Followed::new();
    let (first, mut asked) = mpsc::channel::<()>(1);
    let now = hosts.borrow_and_update().clone();
    update(shared, &writer, &mut followed, now, Some(&first));
    drop(first);
    // Each follower drops its sender once it has asked for the first time.
    let _ = timeout(FIRST_TABLE, asked.recv()).await;
    let shared_too = shared.clone();
    shared.tasks.spawn_service("the edge's list of hosts", async move {
        while hosts.changed().await.is_ok() {
            let now = hosts.borrow_and_update().clone();
            update(&shared_too, &writer, &mut followed, now, None);
        }
        // The list no longer changes; the hosts are followed on.
        std::future::pending().await
    });
}

/// The follower of each host.
type Followed = HashMap<HostId, Following>;

/// A task that follows a host.
struct Following {
    api: EdgeHost,
    task: AbortHandle,
    /// Where the task sees that its host has been forgotten.
    forgotten: Arc<AtomicBool>,
}

/// Follows hosts that are new, follows again those that are called in another way now, and
/// forgets those that are gone.
fn update(
    shared: &Arc<Shared>,
    writer: &Writer,
    followed: &mut Followed,
    hosts: Vec<EdgeHost>,
    first: Option<&mpsc::Sender<()>>,
) {
    followed.retain(|id, following| {
        let now = hosts.iter().find(|host| host.id == *id);
        let stays = now.is_some_and(|host| host.is_same(&following.api));
        if !stays {
            following.task.abort();
            shared.hosts.remove(*id);
            change(shared, writer, |writer| {
                // Under the lock: the follower may be about to apply what it has read.
                following.forgotten.store(true, SeqCst);
                match now {
                    Some(_) => writer.restart_host(*id),
                    None => writer.forget_host(*id),
                }
            });
        }
        stays
    });
    for host in hosts {
        followed.entry(host.id).or_insert_with(|| {
            let api = host.clone();
            let host = Arc::new(FollowedHost::new(host));
            shared.hosts.add(host.clone());
            let forgotten = Arc::new(AtomicBool::new(false));
            let (shared, writer) = (shared.clone(), writer.clone());
            let follower = Follower { shared, writer, host, forgotten: forgotten.clone() };
            let tasks = follower.shared.tasks.clone();
            let follow = follower.follow(first.cloned());
            let task = tasks.spawn_service("the follower of a host", follow).abort_handle();
            Following { api, task, forgotten }
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

/// Follows one host.
struct Follower {
    shared: Arc<Shared>,
    writer: Writer,
    host: Arc<FollowedHost>,
    /// The host is no longer part of the platform: nothing of it is applied.
    forgotten: Arc<AtomicBool>,
}

impl Follower {
    async fn follow(self, mut first: Option<mpsc::Sender<()>>) {
        let Self { host, .. } = &self;
        let rng = rt::Rng::from_os();
        let pauses = || rt::Backoff::new(Duration::from_millis(5), Duration::from_secs(2));
        let mut backoff = pauses();
        loop {
            let subscription = subscribe(host).await;
            let progressed = match subscription {
                Ok(subscription) => self.follow_subscription(subscription, &mut first).await,
                Err(err) => {
                    tracing::warn!(host = %host.id, %err, "cannot follow the host's routes");
                    self.record_stream_down();
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

    /// Changes the table unless the host has been forgotten.
    fn change<T>(&self, change_host: impl FnOnce(&mut TableWriter) -> T) -> Option<T> {
        change(&self.shared, &self.writer, |writer| {
            (!self.forgotten.load(SeqCst)).then(|| change_host(writer))
        })
    }

    /// Machines of other hosts are preferred from now on, also by requests that wait.
    fn record_stream_down(&self) {
        let id = self.host.id;
        if self.host.record_stream_down() {
            tracing::warn!(host = %id, "the host's routes are not followed: others are preferred");
            self.change(|writer| writer.notify_waiting(id));
        }
    }

    /// Applies a subscription until there is a gap or the end. Returns whether there
    /// were any changes.
    async fn follow_subscription(
        &self,
        subscription: RouteSubscription,
        first: &mut Option<mpsc::Sender<()>>,
    ) -> bool {
        let host = &self.host;
        let RouteSubscription { snapshot, mut changes, acknowledge } = subscription;
        let mut stream = Stream { host: host.clone(), position: snapshot.position };
        let start = snapshot.position.generation;
        let replaced = self.change(|writer| {
            let replaced = writer.replace(host, snapshot);
            if replaced {
                // Before waiting requests are notified of the snapshot.
                host.record_stream_open();
            }
            replaced
        });
        if replaced != Some(true) {
            tracing::warn!(host = %host.id, "a stale snapshot of the host's routes is ignored");
            return false;
        }
        *first = None;
        // A full queue means that the host has not read earlier acknowledgements;
        // the newest includes them all, and the next change sends it.
        let _ = acknowledge.try_send(start);
        loop {
            let Some(next) = changes.recv().await else {
                self.record_stream_down();
                break;
            };
            host.record_answer();
            let batch = batch(next, &mut changes);
            let Some(ended) = self.change(|writer| stream.apply(writer, batch)) else { break };
            let _ = acknowledge.try_send(stream.position.generation);
            if let Err(ended) = ended {
                tracing::warn!(host = %host.id, ?ended, "the host's routes are asked for again");
                break;
            }
        }
        stream.position.generation > start
    }
}

async fn subscribe(host: &FollowedHost) -> Result<RouteSubscription, HostError> {
    let asked = host.api.routes.routes(CallContext::edge(SUBSCRIBE_TIMEOUT));
    let too_late = |_| HostError::DeadlineExceeded("the host did not send its routes".into());
    timeout(SUBSCRIBE_TIMEOUT, asked).await.map_err(too_late)?
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
    host: Arc<FollowedHost>,
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

    #[tokio::test]
    async fn a_late_batch_of_a_forgotten_host_changes_nothing() {
        let lab = Lab::new(&[80]);
        let (host, mut late) = (lab.host.clone(), stream(&lab, 5));
        let shared = Arc::new(crate::shared::testing::shared(9));
        let (writer, table) = (Arc::new(Mutex::new(lab.writer)), lab.table);
        let forgotten = Arc::new(AtomicBool::new(false));
        let follower = Follower { shared: shared.clone(), writer: writer.clone(), host, forgotten };
        follower.change(|writer| late.apply(writer, [upsert(6)].into_iter())).unwrap().unwrap();
        assert!(table.get("web").is_some());
        let id = follower.host.id;
        let task = shared.tasks.spawn(std::future::pending::<()>()).abort_handle();
        let (api, forgotten) = (follower.host.api.clone(), follower.forgotten.clone());
        let mut followed = Followed::from([(id, Following { api, task, forgotten })]);
        update(&shared, &writer, &mut followed, Vec::new(), None);
        assert!(table.get("web").is_none());
        // What it had read before it was asked to end.
        assert_eq!(follower.change(|writer| late.apply(writer, [upsert(7)].into_iter())), None);
        assert!(table.get("web").is_none());
    }
}
