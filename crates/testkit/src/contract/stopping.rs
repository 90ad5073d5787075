//! The contract of a host that stops: its machines keep running, so no caller may take
//! one of them for gone, or for being changed already.

use super::calls::create_machine;
use host_api::{
    CallContext, Caller, Deadline, Host, HostError, Source, Stop, WaitFor, WakeRefused,
};
use std::time::Duration;

fn context() -> CallContext {
    let caller = Caller::Token("contract".into());
    CallContext::new(caller, Source::User, Deadline::within(Duration::from_secs(20)))
}

fn is_unavailable<T: std::fmt::Debug>(answer: Result<T, HostError>) {
    assert!(matches!(answer, Err(HostError::Unavailable { .. })), "{answer:?}");
}

/// Waits for and changes a machine of `host` while `stop` ends the host.
///
/// # Panics
/// An answer is another than that the host cannot be reached.
pub async fn stopping_host_contract(host: &dyn Host, stop: impl Future<Output = ()>) {
    let id = create_machine(host, 1).await;
    let wanted =
        || WaitFor { states: vec!["stopped".into()], timeout_ms: 15_000, ..WaitFor::default() };
    let mut waiting = host.wait(context(), id, wanted());
    assert!(futures_util::poll!(&mut waiting).is_pending(), "it runs");
    stop.await;
    is_unavailable(waiting.await);
    is_unavailable(host.wait(context(), id, wanted()).await);
    is_unavailable(host.start(context(), id).await);
    is_unavailable(host.stop(context(), id, Stop::default()).await);
    is_unavailable(host.suspend(context(), id).await);
    is_unavailable(host.restart(context(), id, Stop::default(), true).await);
    is_unavailable(host.cordon(context(), id, true).await);
    is_unavailable(host.destroy(context(), id, true).await);
    let edge = || CallContext::edge(Duration::from_secs(20));
    is_unavailable(host.set_busy(context(), id, 1000).await);
    let idle = host.stop_idle(edge(), id, "idle".into()).await;
    assert!(matches!(idle, Err(WakeRefused::Unavailable(_))), "{idle:?}");
}
