//! `Memory` of the host in memory: a machine that runs holds 64 MiB.

use super::FakeHost;
use async_trait::async_trait;
use host_api::{CallContext, HostError, Memory};
use model::id::{Epoch, MachineId};
use wire::machines::{MachineMemory, MemoryReclaimed};

const HELD_MB: u32 = 64;

#[async_trait]
impl Memory for FakeHost {
    async fn memory(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<MachineMemory, HostError> {
        self.enter_call("memory", &context).await?;
        self.memory_of(id, None)
    }

    async fn limit_memory(
        &self,
        context: CallContext,
        id: MachineId,
        limit_mb: u32,
    ) -> Result<MachineMemory, HostError> {
        self.enter_call("limit_memory", &context).await?;
        let memory = self.memory_of(id, context.epoch)?;
        match memory.limit_mb == limit_mb {
            true => Ok(memory),
            false => Err(HostError::Unsupported("the memory cannot be limited".into())),
        }
    }

    async fn reclaim_memory(
        &self,
        context: CallContext,
        id: MachineId,
        amount_mb: u32,
    ) -> Result<MemoryReclaimed, HostError> {
        self.enter_call("reclaim_memory", &context).await?;
        self.memory_of(id, context.epoch)?;
        Ok(MemoryReclaimed { actual_mb: amount_mb.min(HELD_MB / 2) })
    }
}

impl FakeHost {
    fn memory_of(&self, id: MachineId, sent: Option<Epoch>) -> Result<MachineMemory, HostError> {
        let kept = self.owned(id, sent)?;
        if !kept.state.holds_memory() {
            return Err(HostError::Conflict(format!("machine is {}", kept.state)));
        }
        let guest = kept.machine.config.as_ref().and_then(|config| config.guest.as_ref());
        let limit_mb = guest.and_then(|guest| guest.memory_mb).unwrap_or(256);
        Ok(MachineMemory { limit_mb, available_mb: limit_mb - HELD_MB })
    }
}
