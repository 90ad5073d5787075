//! Reclaims of memory that are under way: one per machine, and few on a host.

use host_api::HostError;
use model::id::MachineId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reclaims that are carried out at a time. Each holds a thread, and the kernel searches the
/// machine's pages for as long as it takes.
const AT_ONCE: usize = 2;

/// The reclaims of a host.
#[derive(Debug)]
pub(super) struct Reclaims {
    machines: Arc<Mutex<BTreeSet<MachineId>>>,
    slots: Arc<Semaphore>,
}

impl Default for Reclaims {
    fn default() -> Self {
        Self { machines: Arc::default(), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Reclaims {
    /// Waits for the turn of a reclaim. It ends with the value, which the reclaim itself has
    /// to hold: a caller may leave before its end.
    ///
    /// # Errors
    /// Another one of the machine is under way or waits.
    pub(super) async fn begin(&self, id: MachineId) -> Result<Turn, HostError> {
        if !lock(&self.machines).insert(id) {
            let why = "a reclaim of this machine's memory is under way";
            return Err(HostError::Busy(why.into()));
        }
        let mut turn = Turn { id, machines: self.machines.clone(), slot: None };
        // It is never closed.
        turn.slot = self.slots.clone().acquire_owned().await.ok();
        Ok(turn)
    }
}

/// The turn of one reclaim.
#[derive(Debug)]
pub(super) struct Turn {
    id: MachineId,
    machines: Arc<Mutex<BTreeSet<MachineId>>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.slot.take());
        lock(&self.machines).remove(&self.id);
    }
}

fn lock(machines: &Mutex<BTreeSet<MachineId>>) -> MutexGuard<'_, BTreeSet<MachineId>> {
    machines.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_at_a_time_per_machine_and_few_on_the_host() {
        let (reclaims, id) = (Reclaims::default(), MachineId::from_random);
        let first = reclaims.begin(id(1)).await.unwrap();
        assert!(matches!(reclaims.begin(id(1)).await, Err(HostError::Busy(_))));
        let second = reclaims.begin(id(2)).await.unwrap();
        let mut third = Box::pin(reclaims.begin(id(3)));
        assert!(third.as_mut().now_or_never().is_none(), "it waits for a slot");
        assert!(matches!(reclaims.begin(id(3)).await, Err(HostError::Busy(_))), "it waits already");
        // A caller that leaves while it waits holds nothing.
        drop(third);
        drop(first);
        let _third = reclaims.begin(id(3)).await.unwrap();
        drop(second);
        assert!(reclaims.begin(id(1)).await.is_ok());
    }
}
