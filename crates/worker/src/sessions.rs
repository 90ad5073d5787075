//! Sessions that are open at machines beside their requests: execs and forwarded
//! connections. A machine with any is not idle. Connections of edges are no sessions:
//! an edge counts its requests itself, and keeps connections for later ones.

use model::id::MachineId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open sessions by machine. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<MachineId, usize>>>);

/// One session; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Sessions,
    machine: MachineId,
}

impl Sessions {
    pub(crate) fn open(&self, machine: MachineId) -> Session {
        *self.lock().entry(machine).or_default() += 1;
        Session { sessions: self.clone(), machine }
    }

    pub(crate) fn count(&self, machine: MachineId) -> usize {
        self.lock().get(&machine).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut sessions = self.sessions.lock();
        if let Some(count) = sessions.get_mut(&self.machine) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.machine);
            }
        }
    }
}
