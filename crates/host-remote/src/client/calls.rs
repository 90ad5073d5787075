//! The calls that are answered by one frame.

use super::RemoteHost;
use async_trait::async_trait;
use host_api::{
    AcquireLease, CallContext, ChangeMetadata, Checks, CreateMachine, HostError, HostInfo, Leases,
    Load, MachineFilter, Machines, Memory, Schedules, Status, Stop, UpdateMachine, WaitFor,
    WakeRefused,
};
use model::id::{EventId, InstanceId, MachineId};
use wire::machines::{
    CheckReport, Lease, Machine, MachineEvent, MachineMemory, MachineVersion, MemoryReclaimed,
    Process, ScheduleRun, Started, WaitResult,
};

#[async_trait]
impl Status for RemoteHost {
    async fn info(&self, context: CallContext) -> Result<HostInfo, HostError> {
        self.unary("info", context, &()).await?
    }

    async fn info_with_usage(&self, context: CallContext) -> Result<HostInfo, HostError> {
        self.unary("info_with_usage", context, &()).await?
    }
}

#[async_trait]
impl Machines for RemoteHost {
    async fn create(
        &self,
        context: CallContext,
        create: CreateMachine,
    ) -> Result<Machine, HostError> {
        self.unary("create", context, &(create,)).await?
    }

    async fn update(
        &self,
        context: CallContext,
        update: UpdateMachine,
    ) -> Result<Machine, HostError> {
        self.unary("update", context, &(update,)).await?
    }

    async fn machine(&self, context: CallContext, id: MachineId) -> Result<Machine, HostError> {
        self.unary("machine", context, &(id,)).await?
    }

    async fn machines(
        &self,
        context: CallContext,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, HostError> {
        self.unary("machines", context, &(filter,)).await?
    }

    async fn start(&self, context: CallContext, id: MachineId) -> Result<Started, HostError> {
        self.unary("start", context, &(id,)).await?
    }

    async fn stop(&self, context: CallContext, id: MachineId, stop: Stop) -> Result<(), HostError> {
        self.unary("stop", context, &(id, stop)).await?
    }

    async fn suspend(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        self.unary("suspend", context, &(id,)).await?
    }

    async fn restart(
        &self,
        context: CallContext,
        id: MachineId,
        stop: Stop,
        force: bool,
    ) -> Result<(), HostError> {
        self.unary("restart", context, &(id, stop, force)).await?
    }

    async fn signal(
        &self,
        context: CallContext,
        id: MachineId,
        signal: i32,
    ) -> Result<(), HostError> {
        self.unary("signal", context, &(id, signal)).await?
    }

    async fn destroy(
        &self,
        context: CallContext,
        id: MachineId,
        force: bool,
    ) -> Result<(), HostError> {
        self.unary("destroy", context, &(id, force)).await?
    }

    async fn cordon(
        &self,
        context: CallContext,
        id: MachineId,
        cordoned: bool,
    ) -> Result<(), HostError> {
        self.unary("cordon", context, &(id, cordoned)).await?
    }

    async fn change_metadata(
        &self,
        context: CallContext,
        id: MachineId,
        change: ChangeMetadata,
        version: Option<InstanceId>,
    ) -> Result<(), HostError> {
        self.unary("change_metadata", context, &(id, change, version)).await?
    }

    async fn events(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<MachineEvent>, HostError> {
        match before {
            None => self.unary("events", context, &(id, limit)).await?,
            // A host of an earlier version knows no other list than the newest.
            Some(_) => self.unary("events_before", context, &(id, limit, before)).await?,
        }
    }

    async fn versions(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<MachineVersion>, HostError> {
        self.unary("versions", context, &(id,)).await?
    }

    async fn wait(
        &self,
        context: CallContext,
        id: MachineId,
        wait: WaitFor,
    ) -> Result<WaitResult, HostError> {
        self.unary("wait", context, &(id, wait)).await?
    }

    async fn processes(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<Process>, HostError> {
        self.unary("processes", context, &(id,)).await?
    }
}

#[async_trait]
impl Leases for RemoteHost {
    async fn acquire_lease(
        &self,
        context: CallContext,
        id: MachineId,
        wanted: AcquireLease,
    ) -> Result<Lease, HostError> {
        self.unary("acquire_lease", context, &(id, wanted)).await?
    }

    async fn lease(&self, context: CallContext, id: MachineId) -> Result<Option<Lease>, HostError> {
        self.unary("lease", context, &(id,)).await?
    }

    async fn release_lease(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        self.unary("release_lease", context, &(id,)).await?
    }
}

#[async_trait]
impl Memory for RemoteHost {
    async fn memory(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<MachineMemory, HostError> {
        self.unary("memory", context, &(id,)).await?
    }

    async fn limit_memory(
        &self,
        context: CallContext,
        id: MachineId,
        limit_mb: u32,
    ) -> Result<MachineMemory, HostError> {
        self.unary("limit_memory", context, &(id, limit_mb)).await?
    }

    async fn reclaim_memory(
        &self,
        context: CallContext,
        id: MachineId,
        amount_mb: u32,
    ) -> Result<MemoryReclaimed, HostError> {
        self.unary("reclaim_memory", context, &(id, amount_mb)).await?
    }
}

#[async_trait]
impl Checks for RemoteHost {
    async fn checks(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<CheckReport>, HostError> {
        self.unary("checks", context, &(id,)).await?
    }
}

#[async_trait]
impl Schedules for RemoteHost {
    async fn runs(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, HostError> {
        self.unary("runs", context, &(id, limit)).await?
    }

    async fn run_now(&self, context: CallContext, id: MachineId) -> Result<ScheduleRun, HostError> {
        self.unary("run_now", context, &(id,)).await?
    }
}

#[async_trait]
impl Load for RemoteHost {
    async fn wake(&self, context: CallContext, id: MachineId) -> Result<(), WakeRefused> {
        self.unary("wake", context, &(id,)).await?
    }

    async fn stop_idle(
        &self,
        context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused> {
        self.unary("stop_idle", context, &(id, reason)).await?
    }

    async fn suspend_idle(
        &self,
        context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused> {
        self.unary("suspend_idle", context, &(id, reason)).await?
    }

    async fn set_busy(
        &self,
        context: CallContext,
        id: MachineId,
        ttl_ms: u64,
    ) -> Result<Option<u64>, HostError> {
        self.unary("set_busy", context, &(id, ttl_ms)).await?
    }

    fn drained(&self, id: MachineId) {
        self.0.hints.drained(id);
    }

    /// The host is not asked, as the caller does not wait: 0, also for a machine that has
    /// sessions. Its host refuses to stop it as idle.
    fn sessions(&self, _id: MachineId) -> usize {
        0
    }
}
