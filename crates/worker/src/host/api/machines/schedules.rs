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
            if let Some(key) = context.idempotency_key.clone() {
                // Noted first: a run is begun at most once for a call.
                let now = self.0.context.clock.now_ms();
                let begun = self.0.context.db.begin_call(key, now).await;
                if !begun.map_err(|err| HostError::Internal(rt::chain(&err)))? {
                    let newest = self.0.context.db.runs(id, 1).await;
                    let newest = newest.map_err(|err| HostError::Internal(rt::chain(&err)))?;
                    let none = || HostError::Conflict("the call has been refused before".into());
                    return newest.first().map(Run::shown).ok_or_else(none);
                }
            }
            self.0.context.run_requests.ask(id).await
        };
        self.within(&context, call).await
    }
}
