//! The memory of machines that run.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::MachineId;
use wire::machines::{MachineMemory, MemoryReclaimed};

/// The memory of the machines of one host, as long as they run ([`HostError::Conflict`] if
/// not). No lease guards it, and none of it makes a version.
#[async_trait]
pub trait Memory: Send + Sync {
    /// What a machine may use, and how much of it its VM does not hold.
    async fn memory(&self, context: CallContext, id: MachineId)
    -> Result<MachineMemory, HostError>;

    /// Limits what a machine uses until the end of its boot.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] if the host cannot enforce the limit in the VM that runs.
    async fn limit_memory(
        &self,
        context: CallContext,
        id: MachineId,
        limit_mb: u32,
    ) -> Result<MachineMemory, HostError>;

    /// Takes memory from a VM that it does not need at the moment; how much was given
    /// back in fact, which may be nothing.
    async fn reclaim_memory(
        &self,
        context: CallContext,
        id: MachineId,
        amount_mb: u32,
    ) -> Result<MemoryReclaimed, HostError>;
}
