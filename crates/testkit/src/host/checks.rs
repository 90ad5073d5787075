//! `Checks` of the host in memory: as the test sets them.

use super::FakeHost;
use async_trait::async_trait;
use host_api::{CallContext, Checks, HostError};
use model::id::MachineId;
use wire::machines::{CheckReport, CheckStatus};

#[async_trait]
impl Checks for FakeHost {
    async fn checks(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<CheckReport>, HostError> {
        self.enter_call("checks", &context).await?;
        Ok(self.owned(id, None)?.checks)
    }
}

impl FakeHost {
    /// A machine's checks are these from now on.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn set_checks(&self, id: MachineId, checks: Vec<CheckReport>) -> Result<(), HostError> {
        self.change(id, |kept| {
            let short = |check: &CheckReport| CheckStatus {
                name: check.name.clone(),
                status: check.status.clone(),
                output: check.output.clone(),
                updated_at: check.updated_at.clone(),
            };
            kept.machine.checks = checks.iter().map(short).collect();
            kept.checks = checks;
            Ok(())
        })
    }
}
