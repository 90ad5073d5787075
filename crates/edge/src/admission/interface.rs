//! What an edge is to ask of the edge on a machine's own host. No other edge asks yet:
//! each decides by its own table, and only the tests of the cluster ask here.
//!
//! Only that one counts what is in flight, so limits, wakes, drains and autostop
//! are exact with any number of edges. An edge that accepted a request for a
//! machine elsewhere asks here, and on a refusal tries the next machine.

use crate::admission::permit::Permit;
use crate::admission::refusal::Refusal;
use crate::admission::wake::wake;
use crate::shared::Shared;
use crate::table::target::Target;
use async_trait::async_trait;
use host_api::{Deadline, WakeRefused};
use model::id::{Epoch, HostId, MachineId};
use std::sync::Arc;

/// A machine that a request is to be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionRequest {
    /// Name of its app.
    pub app: String,
    /// The machine.
    pub machine: MachineId,
    /// The host that the caller takes for its owner.
    pub host: HostId,
    /// The ownership that the caller acts on.
    pub ownership: Epoch,
    /// Outside port of the service.
    pub port: u16,
}

/// The right to use a machine, as the edge on its own host gives it.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Counts a request at the machine, at once or not at all. The place is held
    /// until the permit is dropped.
    ///
    /// # Errors
    /// [`Refusal`].
    fn admit(&self, request: &AdmissionRequest) -> Result<Permit, Refusal>;

    /// Wakes the machine, or joins the wake under way; returns once it is started.
    ///
    /// # Errors
    /// [`WakeRefused`].
    async fn wake(&self, request: &AdmissionRequest, deadline: Deadline)
    -> Result<(), WakeRefused>;
}

/// Admission to the machines of the table of this process.
#[derive(Debug)]
pub(crate) struct LocalAdmission(pub(crate) Arc<Shared>);

impl LocalAdmission {
    fn target(&self, request: &AdmissionRequest) -> Result<Target, Refusal> {
        let entry = self.0.table.get(&request.app).ok_or(Refusal::Gone)?;
        let app = entry.load();
        let targets = app.targets(&[request.port]).ok_or(Refusal::Gone)?;
        let target = targets.iter().find(|target| target.machine.id == request.machine);
        let target = target.ok_or(Refusal::Gone)?;
        let machine = &target.machine;
        if machine.ownership > request.ownership {
            return Err(Refusal::Stale { known: machine.ownership });
        }
        if machine.host.id != request.host {
            return Err(Refusal::NotMine(machine.host.id));
        }
        Ok(target.clone())
    }
}

#[async_trait]
impl Admission for LocalAdmission {
    fn admit(&self, request: &AdmissionRequest) -> Result<Permit, Refusal> {
        self.target(request)?.admit_if_ready()
    }

    async fn wake(
        &self,
        request: &AdmissionRequest,
        deadline: Deadline,
    ) -> Result<(), WakeRefused> {
        let target = self.target(request).map_err(|_| WakeRefused::Gone)?;
        let mut pending = wake(&self.0, &target);
        let done = tokio::select! {
            done = pending.wait_for(Option::is_some) => done.map(|answer| answer.clone()),
            () = deadline.passed() => {
                return Err(WakeRefused::Unavailable("the machine did not start in time".into()));
            }
        };
        match done {
            Ok(Some(answer)) => answer,
            _ => Err(WakeRefused::Unavailable("the edge is shutting down".into())),
        }
    }
}
