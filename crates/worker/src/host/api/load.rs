//! Waking machines for traffic, and stopping idle ones.

use crate::host::registry::Worker;
use crate::machine::view::View;
use crate::machine::wait::wait;
use crate::machine::{Call, Guard, Handle, Request};
use async_trait::async_trait;
use host_api::{CallContext, HostError, Load, Stop, WaitFor, WakeRefused};
use model::id::MachineId;
use model::life::{State, Want};
use rt::clock::rfc3339;
use std::sync::Arc;
use std::time::Duration;

/// A wake that takes longer has failed; the edge's own deadline is normally shorter.
const WAKE_TIMEOUT: Duration = Duration::from_secs(300);

#[async_trait]
impl Load for Worker {
    async fn wake(&self, context: CallContext, id: MachineId) -> Result<(), WakeRefused> {
        let handle = self.existing(&context, id).await?;
        if handle.view().record.state == State::Started {
            return Ok(());
        }
        let timeout = WAKE_TIMEOUT.min(context.deadline.remaining());
        let woken = async {
            let views = handle.views.clone();
            let wanted = WaitFor {
                states: vec!["started".into()],
                timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                ..WaitFor::default()
            };
            let start = |reply| Request::Start(context.source, reply);
            let woken = self.ask(&handle, None, Guard::Exempt, start).await;
            woken.map_err(WakeRefused::from)?;
            let mut stopped_again = handle.views.clone();
            tokio::select! {
                biased;
                started = wait(views, &wanted) => {
                    started.map(drop).map_err(|err| match err {
                        HostError::Unavailable { message, .. } => WakeRefused::Unavailable(message),
                        other => WakeRefused::Failed(other.to_string()),
                    })
                }
                // It was stopped while it came up.
                _ = stopped_again.wait_for(is_down) => {
                    Err(WakeRefused::Failed("it was stopped before it was started".into()))
                }
            }
        };
        let late = || WakeRefused::Unavailable(format!("it did not start within {timeout:?}"));
        tokio::time::timeout(timeout, woken).await.unwrap_or_else(|_| Err(late()))
    }

    async fn stop_idle(
        &self,
        context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused> {
        let source = context.source;
        let stop = |reply| Request::Stop(Stop::default(), source, Some(reason), reply);
        self.existing(&context, id).await?;
        self.refuse_in_session(id)?;
        self.change(context, id, stop).await.map_err(WakeRefused::from)
    }

    async fn suspend_idle(
        &self,
        context: CallContext,
        id: MachineId,
        reason: String,
    ) -> Result<(), WakeRefused> {
        let view = self.existing(&context, id).await?.view();
        self.refuse_in_session(id)?;
        if let Some(why) = view.record.unsuspendable() {
            let reason = format!("{reason}; it cannot be suspended: {why}");
            return self.stop_idle(context, id, reason).await;
        }
        let source = context.source;
        let suspend = |reply| Request::Suspend(source, Some(reason), reply);
        self.change(context, id, suspend).await.map_err(WakeRefused::from)
    }

    async fn set_busy(
        &self,
        context: CallContext,
        id: MachineId,
        ttl_ms: u64,
    ) -> Result<Option<u64>, HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            self.ask(&handle, None, Guard::Exempt, |reply| Request::Busy(ttl_ms, reply)).await
        };
        self.within(&context, call).await
    }

    fn drained(&self, id: MachineId) {
        if let Ok(handle) = self.machine_handle(id) {
            // A full inbox may drop this: the machine's task waits a limited time only.
            let _ = handle.requests.try_send(Call::of_host(Request::Drained));
        }
    }

    fn sessions(&self, id: MachineId) -> usize {
        self.0.context.sessions.count(id)
    }
}

impl Worker {
    /// A machine with an open session is not idle, also if the calling edge sees no request: the
    /// session may have come over another edge, or over none.
    fn refuse_in_session(&self, id: MachineId) -> Result<(), WakeRefused> {
        let busy = self.machine_handle(id).ok().and_then(|handle| handle.view().record.busy_until);
        if let Some(until) = busy.filter(|&until| until > self.0.context.clock.now_ms()) {
            let why = format!("machine is not idle: it is busy until {}", rfc3339(until));
            return Err(WakeRefused::NotStartable(why));
        }
        match self.0.context.sessions.count(id) {
            0 => Ok(()),
            open => Err(WakeRefused::NotStartable(format!(
                "machine is not idle: {open} execs or forwarded connections are open"
            ))),
        }
    }

    /// A machine that is not destroyed.
    async fn existing(&self, context: &CallContext, id: MachineId) -> Result<Handle, WakeRefused> {
        let handle = self.owned(context, id).await.map_err(WakeRefused::from)?;
        match handle.view().record.state {
            State::Destroyed => Err(WakeRefused::Gone),
            _ => Ok(handle),
        }
    }
}

fn is_down(view: &Arc<View>) -> bool {
    let record = &view.record;
    let down = matches!(record.state, State::Stopped | State::Suspended | State::Created);
    down && record.want != Want::Run
}
