//! Health checks.

use crate::host::registry::Worker;
use async_trait::async_trait;
use host_api::{CallContext, Checks, HostError};
use model::id::MachineId;
use wire::machines::CheckReport;

#[async_trait]
impl Checks for Worker {
    async fn checks(
        &self,
        _context: CallContext,
        id: MachineId,
    ) -> Result<Vec<CheckReport>, HostError> {
        let view = self.machine_handle(id)?.view();
        let record = &view.record;
        let version = (record.instance, &*record.config, record.updated_ms);
        Ok(self.0.context.checks.reports(id, version))
    }
}
