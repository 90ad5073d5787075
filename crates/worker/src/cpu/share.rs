//! The CPU share of a machine, by its size.

use crate::record::Record;
use model::size::CpuKind;

impl Record {
    /// Thousandths of a core under contention: 1/16 per shared vCPU, a whole core per
    /// performance vCPU (fly.io/docs/machines/cpu-performance).
    pub(crate) fn cpu_weight(&self) -> u32 {
        let each = if self.cpu_kind() == CpuKind::Performance { 1000 } else { 63 };
        self.vcpus().saturating_mul(each)
    }

    /// How its vCPUs are scheduled.
    pub(crate) fn cpu_kind(&self) -> CpuKind {
        let kind = self.config.guest.as_ref().and_then(|g| g.cpu_kind.as_deref());
        // The API refuses an unknown kind.
        kind.and_then(CpuKind::parse).unwrap_or(CpuKind::Shared)
    }
}
