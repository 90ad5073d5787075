//! How a call asks for a run of a machine.

use host_api::{CallContext, HostError};
use model::id::MachineId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use wire::machines::ScheduleRun;

/// Calls that may wait for one machine.
const WAITING: usize = 16;

/// A call for a run; answered once the run is recorded and begun, or refused.
#[derive(Debug)]
pub(crate) struct RunRequest {
    /// Its key, source and lease are those of the run.
    pub(crate) context: CallContext,
    pub(crate) reply: oneshot::Sender<Result<ScheduleRun, HostError>>,
}

/// The drivers of a host's machines.
#[derive(Debug, Default)]
pub(crate) struct RunRequests(Mutex<BTreeMap<MachineId, mpsc::Sender<RunRequest>>>);

impl RunRequests {
    /// The requests for a machine whose driver begins.
    pub(crate) fn register(&self, id: MachineId) -> mpsc::Receiver<RunRequest> {
        let (sender, requests) = mpsc::channel(WAITING);
        self.lock().insert(id, sender);
        requests
    }

    /// The driver of a machine has ended.
    pub(crate) fn remove_closed(&self, id: MachineId) {
        let mut drivers = self.lock();
        if drivers.get(&id).is_some_and(mpsc::Sender::is_closed) {
            drivers.remove(&id);
        }
    }

    /// Asks for a run of a machine.
    pub(crate) async fn ask(
        &self,
        id: MachineId,
        context: CallContext,
    ) -> Result<ScheduleRun, HostError> {
        let (reply, answer) = oneshot::channel();
        let driver = self.lock().get(&id).cloned();
        let ended = || HostError::Conflict("the machine is being destroyed".into());
        let request = RunRequest { context, reply };
        driver.ok_or_else(ended)?.try_send(request).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => {
                HostError::Busy("too many calls wait for a run of this machine".into())
            }
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answer.await.map_err(|_| ended())?
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MachineId, mpsc::Sender<RunRequest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
