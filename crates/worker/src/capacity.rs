//! Memory reserved for machines that run or are about to.

use model::id::MachineId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The memory of this host. A stopped machine holds none.
#[derive(Debug)]
pub(crate) struct Capacity {
    total_mib: u64,
    held: Mutex<HashMap<MachineId, u32>>,
}

/// The host has no room.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "could not reserve resource for machine: insufficient memory available to fulfill request \
     ({asked} MiB asked, {free} of {total} MiB free on this host)"
)]
pub(crate) struct NoRoom {
    asked: u32,
    free: u64,
    total: u64,
}

impl Capacity {
    pub(crate) fn new(total_mib: u64) -> Self {
        Self { total_mib, held: Mutex::default() }
    }

    /// Reserves memory; a machine that already holds some changes its share.
    pub(crate) fn reserve(&self, machine: MachineId, mib: u32) -> Result<(), NoRoom> {
        let mut held = self.lock();
        let others: u64 = sum(&held) - held.get(&machine).copied().map_or(0, u64::from);
        let free = self.total_mib.saturating_sub(others);
        if u64::from(mib) > free {
            return Err(NoRoom { asked: mib, free, total: self.total_mib });
        }
        held.insert(machine, mib);
        Ok(())
    }

    /// Reserves memory for a VM that already runs, even beyond the free memory.
    pub(crate) fn take(&self, machine: MachineId, mib: u32) {
        self.lock().insert(machine, mib);
    }

    pub(crate) fn release(&self, machine: MachineId) {
        self.lock().remove(&machine);
    }

    pub(crate) fn reserved_mib(&self) -> u64 {
        sum(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(held: &HashMap<MachineId, u32>) -> u64 {
    held.values().copied().map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_once() {
        let [a, b] = [1, 2].map(MachineId::from_random);
        let capacity = Capacity::new(1000);
        assert_eq!(capacity.reserve(a, 600), Ok(()));
        assert_eq!(capacity.reserve(a, 700), Ok(()));
        let refused = capacity.reserve(b, 400).unwrap_err();
        assert_eq!(refused, NoRoom { asked: 400, free: 300, total: 1000 });
        capacity.release(a);
        assert_eq!(capacity.reserve(b, 1000), Ok(()));
        assert_eq!(capacity.reserved_mib(), 1000);
    }
}
