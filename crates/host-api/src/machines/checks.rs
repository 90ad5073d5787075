//! Health checks of machines.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::MachineId;
use wire::machines::CheckReport;

/// Health checks of machines, which their host runs.
#[async_trait]
pub trait Checks: Send + Sync {
    /// The checks of a machine, each with its newest run.
    async fn checks(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<CheckReport>, HostError>;
}
