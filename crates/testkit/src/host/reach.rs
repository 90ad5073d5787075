//! How calls reach the host in memory: whether they fail, are held back, or lose
//! their answers.

use super::FakeHost;
use host_api::{CallContext, Caller, HostError};
use std::sync::Arc;
use tokio::sync::Notify;

/// How a host can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    #[default]
    Reachable,
    /// Every call fails at once.
    Away,
    /// Calls are never answered.
    Silent,
}

/// A call that is held back.
#[derive(Clone, Debug, Default)]
pub struct Pause {
    reached: Arc<Notify>,
    released: Arc<Notify>,
}

impl Pause {
    /// Returns once the call has been made.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the call be carried out.
    pub fn release(&self) {
        self.released.notify_one();
    }

    pub(super) async fn hold(&self) {
        self.reached.notify_one();
        self.released.notified().await;
    }
}

impl FakeHost {
    /// The next call of this name (`create`, `destroy`, `resolve_image` …)
    /// fails so, before it does anything.
    pub fn fail_next(&self, call: &str, error: HostError) {
        self.lock().failures.entry(call.into()).or_default().push(error);
    }

    /// The next call of this name is carried out, and fails so in place of its
    /// answer.
    pub fn lose_answer(&self, call: &str, error: HostError) {
        self.lock().lost_answers.insert(call.into(), error);
    }

    /// The next call of this name waits, before it does anything, until it is
    /// released.
    pub fn pause_next(&self, call: &str) -> Pause {
        let pause = Pause::default();
        self.lock().pauses.insert(call.into(), pause.clone());
        pause
    }

    /// How it can be reached from now on.
    pub fn set_reach(&self, reach: Reach) {
        self.lock().reach = reach;
    }

    /// Callers of all calls, oldest first.
    pub fn callers(&self) -> Vec<Caller> {
        self.lock().callers.clone()
    }

    /// States of all machines, destroyed ones included, in order of their ids.
    pub fn states(&self) -> Vec<&'static str> {
        self.lock().machines.values().map(|kept| kept.state.as_str()).collect()
    }

    /// The checks that every call passes: a failure that was set up, a crash
    /// point, the epoch.
    pub(super) async fn enter_call(
        &self,
        name: &str,
        context: &CallContext,
    ) -> Result<(), HostError> {
        self.1.pass(&format!("before {name}")).await;
        let (reach, pause) = {
            let mut state = self.lock();
            state.callers.push(context.caller.clone());
            (state.reach, state.pauses.remove(name))
        };
        match reach {
            Reach::Reachable => {}
            Reach::Away => {
                return Err(HostError::unreachable(format!("host {} does not answer", self.0.id)));
            }
            Reach::Silent => std::future::pending().await,
        }
        if let Some(pause) = pause {
            pause.hold().await;
        }
        let failure = {
            let mut state = self.lock();
            state
                .failures
                .get_mut(name)
                .and_then(|failures| (!failures.is_empty()).then(|| failures.remove(0)))
        };
        failure.map_or(Ok(()), Err)?;
        if context.deadline.remaining().is_zero() {
            return Err(HostError::DeadlineExceeded(format!("{name}: no time is left")));
        }
        Ok(())
    }

    /// A call with the key of this one has been carried out.
    pub(super) fn was_done(&self, context: &CallContext) -> bool {
        context.idempotency_key.as_ref().is_some_and(|key| self.lock().keys.contains(key))
    }

    /// The same; if not, it is noted as carried out.
    pub(super) fn is_done(&self, context: &CallContext) -> bool {
        context.idempotency_key.as_ref().is_some_and(|key| !self.lock().keys.insert(key.clone()))
    }

    /// The result of a call once it has been carried out.
    pub(super) async fn leave_call(&self, name: &str) -> Result<(), HostError> {
        self.1.pass(&format!("after {name}")).await;
        self.lock().lost_answers.remove(name).map_or(Ok(()), Err)
    }
}
