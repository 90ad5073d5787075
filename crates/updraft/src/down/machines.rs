//! Brings the machines of a host down in order: each gets its signal and its time, or is
//! suspended.

use crate::restart_list::RestartList;
use futures_util::{StreamExt, stream};
use host_api::{CallContext, Host, HostError, MachineFilter, Stop, WaitFor};
use model::id::MachineId;
use model::life::State;
use std::time::Duration;
use wire::machines::Machine;

/// Machines that are brought down at a time.
const AT_ONCE: usize = 16;
/// Time for the host to record what is asked of it.
const CALL: Duration = Duration::from_secs(30);

/// Those that are to run, and so are started again.
const RUNNING: [State; 4] = [State::Started, State::Starting, State::Restarting, State::Replacing];
/// Those that are on their way down already.
const ENDING: [State; 2] = [State::Stopping, State::Suspending];
const DOWN: [State; 4] = [State::Stopped, State::Suspended, State::Failed, State::Destroyed];

/// How machines are brought down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Stop,
    Suspend,
}

/// Machines that are not down; a line about each that has failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) why: String,
    pub(super) each: Vec<String>,
}

/// Brings all machines of `host` down within `timeout`; those that run are put on
/// `list` first.
pub(super) async fn bring_down(
    host: &dyn Host,
    list: &RestartList,
    how: How,
    timeout: Duration,
) -> Result<(), Left> {
    let failed = |why: String| Left { why, each: Vec::new() };
    let running = machines(host, &RUNNING).await.map_err(|err| failed(rt::chain(&err)))?;
    let ending = machines(host, &ENDING).await.map_err(|err| failed(rt::chain(&err)))?;
    list.write(&running).map_err(|err| failed(format!("save which machines run: {err}")))?;
    let gerund = if how == How::Suspend { "Suspending" } else { "Stopping" };
    eprintln!("{gerund} {} machines", running.len());
    let running = running.into_iter().map(|id| (id, Some(how)));
    let all = running.chain(ending.into_iter().map(|id| (id, None)));
    let each = all.map(|(id, how)| async move {
        let ended = end(host, id, how, timeout).await;
        ended.map_err(|err| format!("machine {id}: {}", rt::chain(&err)))
    });
    let ends = stream::iter(each).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let ends = tokio::time::timeout(timeout, ends)
        .await
        .map_err(|_| failed(format!("not all stopped within {timeout:?}")))?;
    match ends.into_iter().filter_map(Result::err).collect::<Vec<_>>() {
        each if each.is_empty() => Ok(()),
        each => Err(Left { why: "some machines did not stop".into(), each }),
    }
}

/// The machines in one of these states.
async fn machines(host: &dyn Host, states: &[State]) -> Result<Vec<MachineId>, HostError> {
    let filter = MachineFilter { states: names(states), summary: true, ..Default::default() };
    let found = host.machines(CallContext::control(CALL), filter).await?;
    let id = |machine: &Machine| machine.id.parse().ok();
    Ok(found.iter().filter_map(id).collect())
}

fn names(states: &[State]) -> Vec<String> {
    states.iter().map(|state| state.as_str().to_owned()).collect()
}

/// Brings one machine down; one without `how` is on its way.
async fn end(
    host: &dyn Host,
    id: MachineId,
    how: Option<How>,
    timeout: Duration,
) -> Result<(), HostError> {
    let context = || CallContext::control(CALL);
    let suspended = how == Some(How::Suspend) && host.suspend(context(), id).await.is_ok();
    if how.is_some() && !suspended {
        // Also a machine that cannot be suspended, for example one with swap.
        match host.stop(context(), id, Stop::default()).await {
            Err(err) if is_gone(&err) => return Ok(()),
            stopped => stopped?,
        }
    }
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let wait = WaitFor { states: names(&DOWN), timeout_ms, ..WaitFor::default() };
    match host.wait(CallContext::control(timeout), id, wait).await {
        Err(err) if is_gone(&err) => Ok(()),
        waited => waited.map(drop),
    }
}

fn is_gone(err: &HostError) -> bool {
    matches!(err, HostError::NotFound(_) | HostError::NotMine { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;
    use host_api::Machines;
    use model::id::HostId;
    use testkit::FakeHost;

    const TIME: Duration = Duration::from_secs(20);

    async fn host_with_two() -> (FakeHost, [MachineId; 2]) {
        let host = FakeHost::new(HostId(3), "local");
        let ids =
            [testkit::create_machine(&host, 1).await, testkit::create_machine(&host, 2).await];
        (host, ids)
    }

    #[tokio::test]
    async fn machines_are_brought_down_and_started_again_without_any_api() {
        for (how, state, call) in
            [(How::Stop, "stopped", "stop"), (How::Suspend, "suspended", "suspend")]
        {
            let dir = tempfile::tempdir().unwrap();
            let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
            let (host, ids) = host_with_two().await;
            let third = testkit::create_machine(&host, 3).await;
            host.stop(CallContext::control(CALL), third, Stop::default()).await.unwrap();
            bring_down(&host, &list, how, TIME).await.unwrap();
            assert_eq!(
                host.states().iter().filter(|now| **now == state).count(),
                2 + usize::from(how == How::Stop)
            );
            for id in ids {
                let asked = format!("{call} {id}");
                assert!(host.calls().iter().any(|call| call.starts_with(&asked)), "{asked}");
            }
            list.start_all(&host).await;
            for id in ids {
                let machine = host.machine(CallContext::control(CALL), id).await.unwrap();
                assert_eq!(machine.state, "started");
            }
            let third = host.machine(CallContext::control(CALL), third).await.unwrap();
            assert_eq!(third.state, "stopped", "it did not run before");
        }
    }

    #[tokio::test]
    async fn a_machine_that_cannot_be_suspended_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
        let (host, [first, _]) = host_with_two().await;
        host.fail_next("suspend", HostError::Conflict("it has swap".into()));
        bring_down(&host, &list, How::Suspend, TIME).await.unwrap();
        assert_eq!(host.states(), ["stopped", "suspended"], "{first}");
    }

    #[tokio::test]
    async fn machines_that_are_left_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
        let (host, _) = host_with_two().await;
        host.fail_next("stop", HostError::Internal("the disk is broken".into()));
        let left = bring_down(&host, &list, How::Stop, TIME).await.unwrap_err();
        assert_eq!(left.each.len(), 1, "{left:?}");
        assert!(left.each[0].contains("the disk is broken"), "{left:?}");
    }
}
