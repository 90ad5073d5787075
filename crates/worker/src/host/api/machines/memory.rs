//! The memory of a VM that runs.
//!
//! A VM has no balloon: what its guest may use is fixed when it boots, so that another limit
//! is refused. Memory is reclaimed by the host's kernel, from outside of the guest.

use crate::host::registry::Worker;
use crate::record::Record;
use async_trait::async_trait;
use host_api::{CallContext, HostError, Memory};
use model::id::{BootId, MachineId};
use wire::machines::{MachineMemory, MemoryReclaimed};

#[async_trait]
impl Memory for Worker {
    async fn memory(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<MachineMemory, HostError> {
        let (record, boot) = self.running(id)?;
        self.within(&context, self.measure(record, boot)).await
    }

    async fn limit_memory(
        &self,
        context: CallContext,
        id: MachineId,
        limit_mb: u32,
    ) -> Result<MachineMemory, HostError> {
        let limit = self.owned(&context, id).await?.view().record.memory_mib();
        let (record, boot) = self.running(id)?;
        if limit_mb != limit {
            return Err(HostError::Unsupported(format!(
                "the memory of a VM that runs cannot be limited to {limit_mb} MiB: it has no \
                 balloon, and its guest was booted with {limit} MiB; update guest.memory_mb"
            )));
        }
        self.within(&context, self.measure(record, boot)).await
    }

    async fn reclaim_memory(
        &self,
        context: CallContext,
        id: MachineId,
        amount_mb: u32,
    ) -> Result<MemoryReclaimed, HostError> {
        let most = self.owned(&context, id).await?.view().record.memory_mib();
        let (_, boot) = self.running(id)?;
        let bytes = u64::from(amount_mb.min(most)) << 20;
        let hypervisor = self.0.context.hypervisor.clone();
        let reclaimed = async {
            let turn = self.0.reclaims.begin(id).await?;
            // It reads and writes files of the kernel, which may take long.
            let work = tokio::task::spawn_blocking(move || {
                let bytes = hypervisor.reclaim(id, boot, bytes);
                drop(turn);
                bytes
            });
            work.await.map_err(|err| HostError::Internal(rt::chain(&err)))
        };
        let bytes = self.within(&context, reclaimed).await?;
        Ok(MemoryReclaimed { actual_mb: mib(bytes) })
    }
}

impl Worker {
    fn running(&self, id: MachineId) -> Result<(Record, BootId), HostError> {
        let record = self.machine_handle(id)?.view().record.clone();
        let boot = record.boot.filter(|_| record.state.holds_memory());
        let down = || HostError::Conflict(format!("machine is {}: it has no memory", record.state));
        let boot = boot.ok_or_else(down)?;
        Ok((record, boot))
    }

    async fn measure(&self, record: Record, boot: BootId) -> Result<MachineMemory, HostError> {
        let (hypervisor, id) = (self.0.context.hypervisor.clone(), record.id);
        let read = tokio::task::spawn_blocking(move || hypervisor.memory(id, boot));
        let held = read.await.map_err(|err| HostError::Internal(rt::chain(&err)))?;
        let limit_mb = record.memory_mib();
        let available_mb = limit_mb.saturating_sub(mib(held.unwrap_or(0)));
        Ok(MachineMemory { limit_mb, available_mb })
    }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}
