//! Waiting for a machine to reach a state.

use super::view::{StateChange, View};
use crate::db::CHECK_EVENT;
use crate::record::Record;
use host_api::{HostError, WaitFor};
use model::id::EventId;
use model::life::{State, Want};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::machines::WaitResult;

/// Returns once the machine is, or since the call has been, in one of the states
/// waited for. Every change of the view wakes it; nothing is polled.
pub(crate) async fn wait(
    mut views: watch::Receiver<Arc<View>>,
    wait: &WaitFor,
) -> Result<WaitResult, HostError> {
    let deadline = Duration::from_millis(wait.timeout_ms);
    // A caller that names an event looks back to it; others see the current state and
    // what follows.
    let from = match wait.from_event {
        Some(_) => 0,
        None => views.borrow().next_change.saturating_sub(1),
    };
    let waited = tokio::time::timeout(deadline, async {
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(result) = outcome(&view, from, wait) {
                return result;
            }
            // A destroyed machine has been answered above: only the end of the host ends
            // the task of another.
            if views.changed().await.is_err() {
                return Err(HostError::unreachable("the host is stopping"));
            }
        }
    });
    waited.await.unwrap_or_else(|_| {
        let state = views.borrow().record.state;
        let wanted = wait.states.join(" or ");
        Err(HostError::DeadlineExceeded(format!(
            "machine did not reach {wanted} within {} s; it is {state}",
            deadline.as_secs()
        )))
    })
}

fn outcome(view: &View, from: u64, wait: &WaitFor) -> Option<Result<WaitResult, HostError>> {
    let newer = |change: &&StateChange| {
        let later = |event: &EventId| change.entered && change.event > event.to_string();
        wait.from_event.as_ref().is_none_or(later)
    };
    let entries = view.changes.iter().filter(|change| change.entered);
    let newest = entries.map(|change| change.number).max().unwrap_or(0);
    let changes = view.changes.iter().filter(|change| change.number >= from).filter(newer);
    for change in changes {
        let current = change.number >= newest;
        if !is_reached(change, wait, current.then_some(&view.record)) {
            continue;
        }
        return Some(Ok(WaitResult {
            ok: true,
            state: change.state.as_str().into(),
            version: change.instance.to_string(),
            event_id: change.event.clone(),
        }));
    }
    let record = &view.record;
    let asks_for = |state: &str| wait.states.iter().any(|asked| asked == state);
    let ending = matches!(record.state, State::Destroying | State::Destroyed);
    // It has ended, which is why it is destroyed.
    let has_stopped = ending && record.auto_destroy() && asks_for("stopped");
    let is_created = asks_for("created") && is_prepared(view);
    if has_stopped || is_created {
        let state = if has_stopped { State::Stopped } else { State::Created };
        return Some(Ok(WaitResult {
            ok: true,
            state: state.as_str().into(),
            version: record.instance.to_string(),
            event_id: view.events.front().map_or(String::new(), |event| event.id.clone()),
        }));
    }
    if let Some(reached) = reached_by_event(view, wait) {
        return Some(Ok(reached));
    }
    let to_be_destroyed = record.want == Want::Destroy && asks_for("destroyed");
    let hopeless = match record.state {
        State::Failed => !to_be_destroyed,
        _ => false,
    };
    if record.state == State::Destroyed {
        // Clients take it for the end of the machine, and stop to wait.
        let text = format!("machine not found: {} is destroyed", record.id);
        return Some(Err(HostError::NotFound(text)));
    }
    hopeless.then(|| {
        let why = record.failure.as_deref().unwrap_or("it was destroyed");
        Err(HostError::Conflict(format!(
            "machine failed to reach desired state, {}: it is {}: {why}",
            wait.states.join(" or "),
            record.state
        )))
    })
}

/// A state that the machine has entered by an event after the one that the caller names. The
/// events are kept over a new daemon, which knows no earlier changes of state.
fn reached_by_event(view: &View, wait: &WaitFor) -> Option<WaitResult> {
    let from = wait.from_event?.to_string();
    // Events do not name the version.
    if wait.version.is_some() {
        return None;
    }
    let events: Vec<_> = view.events.iter().filter(|event| event.kind != CHECK_EVENT).collect();
    // Newest first: an event with the state of the one before it has not entered it.
    let entered = events.iter().enumerate().filter(|(at, event)| {
        events.get(at + 1).is_none_or(|before| before.status != event.status)
    });
    let newer = entered.map(|(_, event)| event).filter(|event| event.id > from);
    let mut reached = newer.filter(|event| wait.states.contains(&event.status));
    reached.next().map(|event| WaitResult {
        ok: true,
        state: event.status.clone(),
        version: view.record.instance.to_string(),
        event_id: event.id.clone(),
    })
}

/// A machine that was prepared and never started: it is `stopped`, and a caller that
/// created it without a launch may wait for `created`.
fn is_prepared(view: &View) -> bool {
    let is = |kinds: &[&str]| view.events.iter().any(|event| kinds.contains(&event.kind.as_str()));
    let started = is(&["start", "exit", "launch_failed"]);
    view.record.state == State::Stopped && is(&["launch"]) && !started
}

/// `current` is the record if the change is the newest.
fn is_reached(change: &StateChange, wait: &WaitFor, current: Option<&Record>) -> bool {
    let asked = |word: &str| wait.states.iter().any(|state| state == word);
    let version = wait.version;
    if version.is_some_and(|version| version < change.instance) {
        // That version has been replaced: nothing of it runs.
        return asked("stopped") || asked("destroyed") || asked("replaced") || asked("settled");
    }
    if version.is_some_and(|version| version != change.instance) {
        return false;
    }
    let about_to_change = |record: &Record| match record.state {
        State::Created => true,
        State::Suspended | State::Stopped => record.want != Want::Stop,
        State::Failed => record.want == Want::Destroy,
        _ => false,
    };
    let settled = current.is_some_and(|r| change.state.is_settled() && !about_to_change(r));
    asked(change.state.as_str()) || (asked("settled") && settled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use host_api::Source;
    use model::id::InstanceId;

    fn waiting(states: &[&str], timeout_ms: u64) -> WaitFor {
        let states = states.iter().map(|&s| s.into()).collect();
        WaitFor { states, timeout_ms, ..WaitFor::default() }
    }

    fn at(view: &mut View, state: State) {
        let mut record = view.record.clone();
        record.state = state;
        view.record(record, Vec::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_passed_quickly_is_not_missed() {
        let (sender, views) = watch::channel(Arc::new(View::new(sample(), None, Vec::new())));
        let waiter =
            rt::Tasks::new().spawn(async move { wait(views, &waiting(&["started"], 5000)).await });
        tokio::task::yield_now().await;
        let mut view = (**sender.borrow()).clone();
        for state in [State::Starting, State::Started, State::Stopped] {
            at(&mut view, state);
        }
        sender.send_replace(Arc::new(view));
        assert_eq!(waiter.await.unwrap().unwrap().state, "started");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_names_an_event_looks_back_to_it() {
        let mut view = View::new(sample(), None, Vec::new());
        for (state, id) in [(State::Stopped, 1), (State::Starting, 2), (State::Started, 3)] {
            let mut record = view.record.clone();
            record.state = state;
            let id = EventId::new(id, 1);
            view.record(record, vec![crate::machine::new_event(id, "x", state, Source::Host, 1)]);
        }
        let (_sender, views) = watch::channel(Arc::new(view));
        let mut wanted = waiting(&["stopped"], 10);
        wanted.from_event = Some(EventId::new(1, 0));
        assert_eq!(wait(views.clone(), &wanted).await.unwrap().state, "stopped");
        wanted.from_event = Some(EventId::new(1, 1));
        assert!(wait(views, &wanted).await.is_err(), "it is not newer than itself");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_enters_no_state_is_not_taken_for_one() {
        let event = |id, kind: &str| {
            let id = EventId::new(id, 1);
            crate::machine::new_event(id, kind, State::Started, Source::Host, 1)
        };
        let mut view = View::new(sample(), None, Vec::new());
        let started = Record { state: State::Started, ..view.record.clone() };
        view.record(started.clone(), vec![event(2, "start")]);
        view.record(started.clone(), vec![event(3, CHECK_EVENT)]);
        view.record(started.clone(), vec![event(4, "other")]);
        let reopened = View::new(started, None, vec![event(3, CHECK_EVENT), event(2, "start")]);
        for view in [view, reopened] {
            let (_sender, views) = watch::channel(Arc::new(view));
            let mut wanted = waiting(&["started", "settled"], 10);
            wanted.from_event = Some(EventId::new(1, 1));
            assert!(wait(views.clone(), &wanted).await.is_ok());
            wanted.states = vec!["settled".into()];
            assert!(wait(views.clone(), &wanted).await.is_ok(), "it is settled");
            wanted.from_event = Some(EventId::new(4, 1));
            assert!(wait(views.clone(), &wanted).await.is_err());
            wanted.states = vec!["started".into()];
            wanted.from_event = Some(EventId::new(2, 1));
            assert!(wait(views.clone(), &wanted).await.is_err(), "started before that event");
            wanted.from_event = None;
            assert!(wait(views, &wanted).await.is_ok(), "it is started now");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_labels_displace_no_state_that_a_wait_looks_back_on() {
        let mut view = View::new(sample(), None, Vec::new());
        for (state, id) in [(State::Starting, 1), (State::Started, 2)] {
            let mut record = view.record.clone();
            record.state = state;
            let event = crate::machine::new_event(EventId::new(id, 1), "x", state, Source::Host, 1);
            view.record(record, vec![event]);
        }
        for n in 0..100 {
            let mut record = view.record.clone();
            record.config_mut().metadata = Some([("n".into(), n.to_string())].into());
            view.record(record, Vec::new());
        }
        let (_sender, views) = watch::channel(Arc::new(view));
        let mut wanted = waiting(&["starting"], 10);
        wanted.from_event = Some(EventId::new(1, 0));
        assert_eq!(wait(views, &wanted).await.unwrap().state, "starting");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_end_in_time_or_when_hopeless() {
        let mut view = View::new(sample(), None, Vec::new());
        at(&mut view, State::Stopping);
        let (sender, views) = watch::channel(Arc::new(view.clone()));
        let late = wait(views.clone(), &waiting(&["stopped"], 1000)).await.unwrap_err();
        assert!(
            matches!(&late, HostError::DeadlineExceeded(text) if text.contains("it is stopping"))
        );
        view.record.failure = Some("no entrypoint".into());
        at(&mut view, State::Failed);
        sender.send_replace(Arc::new(view));
        let failed = wait(views.clone(), &waiting(&["started"], 1000)).await.unwrap_err();
        assert!(matches!(&failed, HostError::Conflict(text) if text.contains("no entrypoint")));
        assert!(wait(views, &waiting(&["failed"], 1000)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn created_and_about_to_start_is_not_settled() {
        let view = View::new(sample(), None, Vec::new());
        let (sender, views) = watch::channel(Arc::new(view.clone()));
        assert!(wait(views.clone(), &waiting(&["settled"], 10)).await.is_err());
        let mut idle = view;
        let mut record = idle.record.clone();
        record.want = Want::Stop;
        idle.record(record.clone(), Vec::new());
        sender.send_replace(Arc::new(idle.clone()));
        assert!(wait(views.clone(), &waiting(&["settled"], 10)).await.is_err(), "not prepared");
        record.state = State::Stopped;
        idle.record(record, Vec::new());
        sender.send_replace(Arc::new(idle));
        assert!(wait(views.clone(), &waiting(&["settled"], 10)).await.is_ok());
        assert!(wait(views, &waiting(&["stopped"], 10)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_version_counts_as_replaced() {
        let old = sample().instance;
        let mut view = View::new(sample(), None, Vec::new());
        let mut record = view.record.clone();
        (record.instance, record.state) = (InstanceId::new(50, 1), State::Started);
        view.record(record, Vec::new());
        let (_sender, views) = watch::channel(Arc::new(view));
        let mut wanted = waiting(&["started"], 10);
        wanted.version = Some(old);
        assert!(wait(views.clone(), &wanted).await.is_err());
        wanted.states = vec!["stopped".into()];
        assert!(wait(views, &wanted).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_was_left_before_this_daemon_began_is_in_the_events() {
        let event =
            |id, state| crate::machine::new_event(EventId::new(id, 1), "x", state, Source::Host, 1);
        let events = vec![event(3, State::Stopped), event(2, State::Started)];
        let stopped = Record { state: State::Stopped, want: Want::Stop, ..sample() };
        let (_sender, views) = watch::channel(Arc::new(View::new(stopped, None, events)));
        let mut wanted = waiting(&["started"], 10);
        wanted.from_event = Some(EventId::new(1, 1));
        let reached = wait(views.clone(), &wanted).await.unwrap();
        assert_eq!(
            (reached.state.as_str(), reached.event_id),
            ("started", EventId::new(2, 1).to_string())
        );
        wanted.from_event = Some(EventId::new(2, 1));
        assert!(wait(views.clone(), &wanted).await.is_err(), "it has not been started since");
        wanted.from_event = None;
        assert!(wait(views, &wanted).await.is_err(), "it is not started now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_destroyed_machine_is_not_found_but_for_its_end() {
        let end = |auto_destroy: bool| {
            let mut view = View::new(sample(), None, Vec::new());
            view.record.config_mut().auto_destroy = Some(auto_destroy);
            at(&mut view, State::Destroyed);
            watch::channel(Arc::new(view)).1
        };
        for state in ["started", "stopped", "suspended", "failed"] {
            let ended = wait(end(false), &waiting(&[state], 60_000)).await;
            assert!(matches!(ended, Err(HostError::NotFound(_))), "{state}: {ended:?}");
        }
        for state in ["destroyed", "settled"] {
            assert!(wait(end(false), &waiting(&[state], 10)).await.is_ok(), "{state}");
        }
        assert!(wait(end(true), &waiting(&["stopped"], 10)).await.is_ok(), "it ended by itself");
    }
}
