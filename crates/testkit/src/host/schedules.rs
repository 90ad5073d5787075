//! `Schedules` of the host in memory: a run of a scheduled machine starts it, and is
//! remembered as running.

use super::FakeHost;
use async_trait::async_trait;
use host_api::{CallContext, HostError, Machines, Schedules};
use model::id::MachineId;
use wire::machines::ScheduleRun;

#[async_trait]
impl Schedules for FakeHost {
    async fn runs(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, HostError> {
        self.enter_call("runs", &context).await?;
        let mut runs = self.owned(id, None)?.runs;
        runs.truncate(limit);
        Ok(runs)
    }

    async fn run_now(&self, context: CallContext, id: MachineId) -> Result<ScheduleRun, HostError> {
        self.enter_call("run_now", &context).await?;
        let kept = self.owned(id, context.epoch)?;
        let config = kept.machine.config.unwrap_or_default();
        if config.schedule.is_none() {
            return Err(HostError::Conflict("the machine has no schedule".into()));
        }
        if kept.runs.first().is_some_and(|run| run.status == "running") {
            return Err(HostError::Conflict("a run is under way".into()));
        }
        self.start(context, id).await?;
        let now = rt::clock::rfc3339(self.now_ms());
        let run = ScheduleRun {
            id: format!("run-{}", kept.runs.len()),
            trigger: "manual".into(),
            status: "running".into(),
            scheduled_at: now.clone(),
            started_at: Some(now),
            ended_at: None,
            duration_ms: None,
            exit_code: None,
            reason: None,
        };
        let shown = run.clone();
        self.change(id, |kept| {
            kept.runs.insert(0, run);
            Ok(())
        })?;
        Ok(shown)
    }
}
