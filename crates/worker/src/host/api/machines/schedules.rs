//! Runs of machines with a schedule.

use crate::host::registry::Worker;
use crate::schedules::run::Run;
use async_trait::async_trait;
use host_api::{CallContext, HostError, Schedules};
use model::id::MachineId;
use wire::machines::ScheduleRun;

#[async_trait]
impl Schedules for Worker {
    async fn runs(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, HostError> {
        self.machine_handle(id)?;
        let read = async {
            let runs = self.0.context.db.runs(id, limit).await;
            let runs = runs.map_err(|err| HostError::Internal(rt::chain(&err)))?;
            Ok(runs.iter().map(Run::shown).collect())
        };
        self.within(&context, read).await
    }

    async fn run_now(&self, context: CallContext, id: MachineId) -> Result<ScheduleRun, HostError> {
        let call = async {
            self.owned(&context, id).await?;
            self.0.context.run_requests.ask(id, context.clone()).await
        };
        self.within(&context, call).await
    }
}
