//! Start, stop, suspend, restart, signal, cordon (R039–R044).

use super::body::JsonBody;
use super::query::Params;
use super::{Api, ApiError};
use crate::rules::LONGEST_STOP;
use axum::Json;
use axum::extract::{Path, State};
use model::signal;
use std::time::Duration;
use wire::machines::{Done, SignalMachine, SignalName, Started, StopMachine};
use wire::worker::{Source, Stop};

type At = Path<(String, String)>;
type Answer = Result<Json<Done>, ApiError>;

const OK: Json<Done> = Json(Done { ok: true });

pub(super) async fn start(
    State(api): State<Api>,
    Path((app, machine)): At,
) -> Result<Json<Started>, ApiError> {
    let found = api.find(&app, &machine).await?;
    Ok(Json(found.host.start(&found.id, Source::User).await?))
}

pub(super) async fn stop(
    State(api): State<Api>,
    Path((app, machine)): At,
    JsonBody(how): JsonBody<StopMachine>,
) -> Answer {
    let timeout = how.timeout.map(|span| {
        span.get().ok_or_else(|| ApiError::invalid("timeout: must be a duration such as \"10s\""))
    });
    let stop = stop_by(how.signal.as_deref(), timeout.transpose()?)?;
    let found = api.find(&app, &machine).await?;
    found.host.stop(&found.id, stop, Source::User).await?;
    Ok(OK)
}

/// A body is not looked at; clients of the platform send none.
pub(super) async fn suspend(State(api): State<Api>, Path((app, machine)): At) -> Answer {
    let found = api.find(&app, &machine).await?;
    found.host.suspend(&found.id, Source::User).await?;
    Ok(OK)
}

pub(super) async fn restart(
    State(api): State<Api>,
    Path((app, machine)): At,
    query: Params,
) -> Answer {
    let stop = stop_by(query.get("signal"), query.duration("timeout")?)?;
    let force = query.flag("force_stop")?;
    let found = api.find(&app, &machine).await?;
    found.host.restart(&found.id, stop, force).await?;
    Ok(OK)
}

/// How to stop. No time at all means that of the config, as clients of the
/// platform send it.
fn stop_by(signal: Option<&str>, timeout: Option<Duration>) -> Result<Stop, ApiError> {
    let signal = signal.filter(|name| !name.is_empty()).map(signal_number).transpose()?;
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    if timeout.is_some_and(|timeout| timeout > LONGEST_STOP) {
        return Err(ApiError::invalid("timeout: must be at most 300s"));
    }
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    Ok(Stop { signal, timeout_ms })
}

fn signal_number(name: &str) -> Result<i32, ApiError> {
    signal::number(name).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        ApiError::invalid(format!("signal: there is no signal {name:?}"))
    })
}

pub(super) async fn signal(
    State(api): State<Api>,
    Path((app, machine)): At,
    JsonBody(body): JsonBody<SignalMachine>,
) -> Answer {
    let number = match body.signal {
        SignalName::Name(name) => signal_number(&name)?,
        SignalName::Number(number) if signal::is_valid(number) => number,
        SignalName::Number(number) => signal_number(&number.to_string())?,
    };
    let found = api.find(&app, &machine).await?;
    found.host.signal(&found.id, number).await?;
    Ok(OK)
}

pub(super) async fn cordon(State(api): State<Api>, Path((app, machine)): At) -> Answer {
    let found = api.find(&app, &machine).await?;
    found.host.cordon(&found.id, true).await?;
    Ok(OK)
}

pub(super) async fn uncordon(State(api): State<Api>, Path((app, machine)): At) -> Answer {
    let found = api.find(&app, &machine).await?;
    found.host.cordon(&found.id, false).await?;
    Ok(OK)
}
