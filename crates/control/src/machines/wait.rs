//! Waiting for a state: one long poll, answered by the host's push.

use crate::error::shortened;
use crate::{Error, Kind, Platform, lookup};
use host_api::{HostError, WaitFor};
use model::id::{BadId, EventId, InstanceId};
use std::time::Duration;
use wire::machines::WaitResult;

/// Longest wait; longer ones are cut, as clients of the platform do themselves.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Time beyond the wait itself that the host has for its answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
const STATES: [&str; 7] =
    ["created", "started", "stopped", "suspended", "destroyed", "failed", "settled"];

/// What to wait for, as a client wrote it.
#[derive(Clone, Debug, Default)]
pub struct WaitRequest {
    /// Any of these states; none means `started`.
    pub states: Vec<String>,
    /// Version of the config; absent means the current one.
    pub version: Option<String>,
    /// Only states reached after this event count.
    pub from_event: Option<String>,
    /// How long.
    pub timeout: Option<Duration>,
}

/// Returns once the machine is in one of the states.
///
/// # Errors
/// The time is over, the platform is stopping, or the request is not valid.
pub async fn wait(
    platform: &Platform,
    app: &str,
    machine: &str,
    request: WaitRequest,
) -> Result<WaitResult, Error> {
    let wait = parse(request)?;
    let time = Duration::from_millis(wait.timeout_ms);
    let found = lookup::machine(platform, app, machine).await?;
    let reached = found.call(platform, time + ANSWER_TIME, |host, context, id| {
        let wait = wait.clone();
        async move {
            match host.wait(context, id, wait).await {
                // The host has answered: the state was not reached in time.
                Err(HostError::DeadlineExceeded(late)) => Ok(Err(Error::new(Kind::Timeout, late))),
                answer => answer.map(Ok),
            }
        }
    });
    tokio::select! {
        reached = reached => match reached {
            Ok(reached) => reached,
            // A wait changes nothing, whether it reached the host or not.
            Err(err) if err.kind == Kind::InDoubt => {
                Err(Error::new(Kind::Unavailable, err.message).hint("wait again"))
            }
            Err(err) => Err(err),
        },
        () = platform.tasks().stopping() => {
            Err(Error::new(Kind::Unavailable, "the platform is stopping").hint("wait again"))
        }
    }
}

fn parse(request: WaitRequest) -> Result<WaitFor, Error> {
    let mut states = request.states;
    if states.is_empty() {
        states.push("started".into());
    }
    if let Some(state) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
        let (state, known) = (shortened(state, 40), STATES.join(", "));
        return Err(Error::invalid("state", format!("must be of {known}, not {state:?}")));
    }
    let version: Option<Result<InstanceId, BadId>> = request.version.map(|v| v.parse());
    let from_event: Option<Result<EventId, BadId>> = request.from_event.map(|v| v.parse());
    let timeout = request.timeout.unwrap_or(MAX_WAIT).min(MAX_WAIT);
    Ok(WaitFor {
        states,
        version: version.transpose().map_err(|err| Error::invalid("version", err.to_string()))?,
        from_event: from_event
            .transpose()
            .map_err(|err| Error::invalid("from_event_id", err.to_string()))?,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    })
}
