//! Runs of machines with a schedule.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::MachineId;
use wire::machines::ScheduleRun;

/// Runs of machines with a schedule, which their host begins.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// The runs of a machine that are kept, newest first, at most `limit`.
    async fn runs(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, HostError>;

    /// Begins a run now. [`HostError::Conflict`] if the machine has no schedule, or if a run is
    /// under way and its schedule leaves out runs that overlap.
    async fn run_now(&self, context: CallContext, id: MachineId) -> Result<ScheduleRun, HostError>;
}
