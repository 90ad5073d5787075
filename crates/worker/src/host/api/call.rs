//! The checks of every call to the host.

use crate::host::registry::Worker;
use crate::machine::{Call, Guard, Handle, Reply, Request};
use host_api::{CallContext, HostError};
use model::id::{Epoch, MachineId};
use model::life::State;
use tokio::sync::{mpsc, oneshot};

impl Worker {
    /// Ends a call at its deadline. What it has begun may still come about.
    pub(super) async fn within<T>(
        &self,
        context: &CallContext,
        call: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, HostError> {
        let ended = tokio::time::timeout(context.deadline.remaining(), call).await;
        ended.unwrap_or_else(|_| {
            Err(HostError::DeadlineExceeded(
                "the host did not answer within the time of the call".into(),
            ))
        })
    }

    /// A machine of this host, for a call without effect.
    pub(super) fn machine_handle(&self, id: MachineId) -> Result<Handle, HostError> {
        let handle = self.0.handle(id);
        let handle = handle.ok_or_else(|| {
            let unreadable = self.0.unreadable().iter().any(|row| row.id == id.to_string());
            match unreadable {
                true => HostError::Internal(format!(
                    "the record of machine {id} cannot be read on its host; its VM is left alone"
                )),
                false => HostError::NotFound(format!("machine not found: {id}")),
            }
        })?;
        match handle.view().record.given_up {
            Some(epoch) => Err(self.not_mine(Some(epoch))),
            None => Ok(handle),
        }
    }

    /// A machine of this host, for a change. The caller's epoch must be the one that
    /// the host knows; a machine of a newer epoch is given up.
    pub(super) async fn owned(
        &self,
        context: &CallContext,
        id: MachineId,
    ) -> Result<Handle, HostError> {
        let handle = self.machine_handle(id)?;
        let known = handle.view().record.epoch;
        match context.epoch {
            Some(sent) if sent < known => Err(HostError::StaleEpoch { sent, known }),
            Some(sent) if sent > known => {
                // A destroyed machine has no task, and nothing that could be given up.
                if handle.view().record.state != State::Destroyed {
                    let give_up = |reply| Request::GiveUp(sent, reply);
                    self.ask(&handle, None, Guard::Exempt, give_up).await?;
                }
                Err(self.not_mine(Some(sent)))
            }
            _ => Ok(handle),
        }
    }

    pub(super) fn not_mine(&self, epoch: Option<Epoch>) -> HostError {
        HostError::NotMine { host: self.0.context.config.host, epoch }
    }

    /// A call with this key has been carried out.
    pub(super) async fn is_done(&self, context: &CallContext) -> Result<bool, HostError> {
        let Some(key) = context.idempotency_key.clone() else { return Ok(false) };
        let done = self.0.context.db.is_call_done(key).await;
        done.map_err(|err| HostError::Internal(rt::chain(&err)))
    }

    /// Sends a request to a machine's task.
    pub(super) async fn ask<T>(
        &self,
        handle: &Handle,
        key: Option<String>,
        guard: Guard,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, HostError> {
        let (reply, answer) = oneshot::channel();
        // Only a destroyed machine's task ends while its host runs.
        let ended = || match handle.view().record.state {
            State::Destroyed => HostError::Conflict(format!("machine is {}", State::Destroyed)),
            _ => HostError::unreachable("the host is stopping"),
        };
        let call = Call { request: request(reply), key, guard };
        handle.requests.try_send(call).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => {
                HostError::Busy("too many requests wait for this machine".into())
            }
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answer.await.map_err(|_| ended())?
    }

    /// A change of one machine: owned by the caller's epoch, not against the lease of
    /// another caller, done once per key, and within the deadline.
    pub(super) async fn change(
        &self,
        context: CallContext,
        id: MachineId,
        request: impl FnOnce(Reply<()>) -> Request,
    ) -> Result<(), HostError> {
        let guard = Guard::of(&context);
        self.change_with(context, id, guard, request).await
    }

    /// The same, whether the machine is leased or not.
    pub(super) async fn change_leased(
        &self,
        context: CallContext,
        id: MachineId,
        request: impl FnOnce(Reply<()>) -> Request,
    ) -> Result<(), HostError> {
        self.change_with(context, id, Guard::Exempt, request).await
    }

    async fn change_with(
        &self,
        context: CallContext,
        id: MachineId,
        guard: Guard,
        request: impl FnOnce(Reply<()>) -> Request,
    ) -> Result<(), HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            if self.is_done(&context).await? {
                return Ok(());
            }
            self.ask(&handle, context.idempotency_key.clone(), guard, request).await
        };
        self.within(&context, call).await
    }
}
