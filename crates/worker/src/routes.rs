//! The table of this host's machines for the edges, and its changes.

use host_api::{Route, RouteChange, RoutePosition, RouteSnapshot, RouteSubscription};
use model::id::{HostId, MachineId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Changes an edge may be behind before it has to subscribe again.
const BEHIND: usize = 4096;
/// Acknowledgements of an edge that may wait to be read.
const ACKNOWLEDGEMENTS: usize = 64;

type Numbered = (u64, RouteChange);

/// Invariant: the changes that a subscriber gets, applied to its snapshot in
/// order, are the table. A subscriber that does not keep up loses its channel.
#[derive(Clone, Debug)]
pub(crate) struct RouteHub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    /// The newest generation that every edge which acknowledges has applied.
    applied: watch::Sender<u64>,
}

#[derive(Debug)]
struct Table {
    position: RoutePosition,
    routes: BTreeMap<MachineId, Route>,
    subscribers: Vec<Subscriber>,
    /// Number of the next subscriber: none is used twice, since the end of a subscriber
    /// that has been dropped is noticed late.
    next: u64,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    changes: mpsc::Sender<Numbered>,
    acknowledged: u64,
}

impl RouteHub {
    /// An empty table of `host`, whose worker has been started `epoch` times.
    pub(crate) fn new(host: HostId, epoch: u64) -> Self {
        let position = RoutePosition { host, epoch, generation: 0 };
        let (routes, subscribers, next) = Default::default();
        let table = Mutex::new(Table { position, routes, subscribers, next });
        Self(Arc::new(Inner { table, applied: watch::Sender::new(0) }))
    }

    /// Publishes a machine's route; `None` removes it.
    pub(crate) fn publish(&self, machine: MachineId, route: Option<Route>) {
        let mut table = self.lock();
        if table.routes.get(&machine) == route.as_ref() {
            return;
        }
        let change = match route {
            Some(route) => {
                table.routes.insert(machine, route.clone());
                RouteChange::Upsert(Box::new(route))
            }
            None => {
                table.routes.remove(&machine);
                RouteChange::Remove { machine }
            }
        };
        table.position.generation += 1;
        let numbered = (table.position.generation, change);
        table.subscribers.retain(|edge| edge.changes.try_send(numbered.clone()).is_ok());
        drop(table);
        self.update_applied();
    }

    /// An edge routes to this host's machines.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.lock().subscribers.iter().any(|edge| !edge.changes.is_closed())
    }

    /// Returns once every edge routes by the table as it is now.
    pub(crate) fn applied(&self) -> impl Future<Output = ()> + Send + 'static {
        let (now, mut applied) = (self.lock().position.generation, self.0.applied.subscribe());
        async move {
            // The hub outlives every machine's task.
            let _ = applied.wait_for(|generation| *generation >= now).await;
        }
    }

    /// The table as of now and its changes. Acknowledgements are read in a task of
    /// `tasks`.
    pub(crate) fn subscribe(&self, tasks: &rt::Tasks) -> RouteSubscription {
        let (sender, changes) = mpsc::channel(BEHIND);
        let (acknowledge, acknowledgements) = mpsc::channel(ACKNOWLEDGEMENTS);
        let mut table = self.lock();
        let position = table.position;
        let number = table.next;
        table.next += 1;
        let acknowledged = position.generation;
        table.subscribers.push(Subscriber { number, changes: sender, acknowledged });
        let snapshot = RouteSnapshot { position, routes: table.routes.values().cloned().collect() };
        drop(table);
        tasks.spawn_until_stop(self.clone().read_acknowledgements(number, acknowledgements));
        RouteSubscription { snapshot, changes, acknowledge }
    }

    async fn read_acknowledgements(self, number: u64, mut from: mpsc::Receiver<u64>) {
        while let Some(generation) = from.recv().await {
            let mut table = self.lock();
            let known = table.position.generation;
            if let Some(edge) = table.subscribers.iter_mut().find(|edge| edge.number == number) {
                edge.acknowledged = edge.acknowledged.max(generation.min(known));
            }
            drop(table);
            self.update_applied();
        }
        // The edge has dropped its subscription: it routes no more.
        self.lock().subscribers.retain(|edge| edge.number != number);
        self.update_applied();
    }

    fn update_applied(&self) {
        let table = self.lock();
        let slowest = table.subscribers.iter().map(|edge| edge.acknowledged).min();
        let applied = slowest.unwrap_or(table.position.generation);
        drop(table);
        self.0.applied.send_if_modified(|known| {
            let newer = applied > *known;
            *known = applied.max(*known);
            newer
        });
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_late_end_of_a_dropped_subscriber_ends_no_other() {
        let hub = RouteHub::new(HostId(1), 7);
        let tasks = rt::Tasks::new();
        let RouteSubscription { changes, acknowledge, .. } = hub.subscribe(&tasks);
        drop(changes);
        let machine = MachineId::from_random(1);
        hub.publish(machine, Some(crate::machine::view::tests::route(machine)));
        assert!(!hub.has_subscribers());
        let mut second = hub.subscribe(&tasks);
        drop(acknowledge);
        // The task that reads acknowledgements sees the end.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        hub.publish(machine, None);
        assert_eq!(second.changes.recv().await, Some((2, RouteChange::Remove { machine })));
    }

    #[tokio::test]
    async fn the_slowest_edge_decides_what_is_applied() {
        let hub = RouteHub::new(HostId(1), 7);
        let tasks = rt::Tasks::new();
        let [first, second] = [hub.subscribe(&tasks), hub.subscribe(&tasks)];
        assert_eq!(
            first.snapshot.position,
            RoutePosition { host: HostId(1), epoch: 7, generation: 0 }
        );
        hub.applied().await;
        let machine = MachineId::from_random(1);
        let route = crate::machine::view::tests::route(machine);
        hub.publish(machine, Some(route));
        let mut applied = std::pin::pin!(hub.applied());
        assert!(futures_util::poll!(applied.as_mut()).is_pending());
        first.acknowledge.send(1).await.unwrap();
        second.acknowledge.send(1).await.unwrap();
        applied.await;
        hub.publish(machine, None);
        let applied = hub.applied();
        first.acknowledge.send(2).await.unwrap();
        // An edge that is gone is not waited for.
        drop(second);
        applied.await;
    }
}
