//! The credits of the machines that are held to their baseline.

use model::id::{BootId, MachineId};
use model::size::cpu_credit::CpuCredit;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the metrics show of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuUse {
    /// The run that it is of.
    pub(crate) boot: BootId,
    /// What may be used beyond the baseline.
    pub(crate) credit: CpuCredit,
    /// Time in which the VM was held back since its boot.
    pub(crate) throttled: Duration,
}

/// The machines that are held to their baseline now; only the controller writes them.
#[derive(Debug, Default)]
pub(crate) struct CpuTable(Mutex<BTreeMap<MachineId, CpuUse>>);

impl CpuTable {
    pub(super) fn replace(&self, all: BTreeMap<MachineId, CpuUse>) {
        *self.lock() = all;
    }

    /// The use of one run of a machine, if it is known.
    pub(crate) fn of(&self, machine: MachineId, boot: Option<BootId>) -> Option<CpuUse> {
        self.lock().get(&machine).filter(|known| Some(known.boot) == boot).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MachineId, CpuUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
