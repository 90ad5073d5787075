//! The table of this host's machines for the edges, and its changes.

use model::id::MachineId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;
use wire::routes::{Route, RouteChange, RouteSnapshot};

/// Changes an edge may be behind before it has to subscribe again.
const BEHIND: usize = 4096;

type Numbered = (u64, RouteChange);

/// Invariant: the changes that a subscriber gets, applied to its snapshot in
/// order, are the table. A subscriber that does not keep up loses its channel.
#[derive(Debug, Default)]
pub(crate) struct RouteHub(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    generation: u64,
    routes: BTreeMap<MachineId, Route>,
    subscribers: Vec<mpsc::Sender<Numbered>>,
}

impl RouteHub {
    /// Publishes a machine's route; `None` removes it.
    pub(crate) fn publish(&self, machine: MachineId, route: Option<Route>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
                RouteChange::Remove { machine: machine.to_string() }
            }
        };
        table.generation += 1;
        let numbered = (table.generation, change);
        table.subscribers.retain(|edge| edge.try_send(numbered.clone()).is_ok());
    }

    /// An edge routes to this host's machines.
    pub(crate) fn has_subscribers(&self) -> bool {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.subscribers.iter().any(|edge| !edge.is_closed())
    }

    pub(crate) fn subscribe(&self) -> (RouteSnapshot, mpsc::Receiver<Numbered>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = mpsc::channel(BEHIND);
        table.subscribers.push(sender);
        let routes = table.routes.values().cloned().collect();
        (RouteSnapshot { generation: table.generation, routes }, receiver)
    }
}
