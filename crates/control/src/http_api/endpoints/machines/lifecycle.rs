//! Start, stop, suspend, restart, signal, cordon, wait.

use crate::config::MAX_STOP_TIMEOUT;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::machines::WaitRequest;
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use host_api::Stop;
use model::signal;
use std::time::Duration;
use wire::machines::{Done, SignalMachine, SignalName, Started, StopMachine, WaitResult};

type At = Path<(String, String)>;
type Answer = Result<Json<Done>, Error>;

const OK: Json<Done> = Json(Done { ok: true });

pub(in crate::http_api) async fn start(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<Started>, Error> {
    machines::start(&platform, &app, &machine).await.map(Json)
}

pub(in crate::http_api) async fn stop(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(how): JsonBody<StopMachine>,
) -> Answer {
    let rule = "must be a duration such as \"10s\"";
    let timeout = how.timeout.map(|span| span.get().ok_or_else(|| Error::invalid("timeout", rule)));
    let stop = stop_by(how.signal.as_deref(), timeout.transpose()?)?;
    machines::stop(&platform, &app, &machine, stop).await.map(|()| OK)
}

/// A body is not looked at; clients of the platform send none.
pub(in crate::http_api) async fn suspend(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Answer {
    machines::suspend(&platform, &app, &machine).await.map(|()| OK)
}

pub(in crate::http_api) async fn restart(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Answer {
    let stop = stop_by(query.get("signal"), query.duration("timeout")?)?;
    let force = query.flag("force_stop")?;
    machines::restart(&platform, &app, &machine, stop, force).await.map(|()| OK)
}

/// How to stop. A timeout of zero means that of the config, as clients of the
/// platform send it.
fn stop_by(signal: Option<&str>, timeout: Option<Duration>) -> Result<Stop, Error> {
    let signal = signal.filter(|name| !name.is_empty()).map(signal_number).transpose()?;
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    if timeout.is_some_and(|timeout| timeout > MAX_STOP_TIMEOUT) {
        return Err(Error::invalid("timeout", "must be at most 300s"));
    }
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    Ok(Stop { signal, timeout_ms })
}

fn signal_number(name: &str) -> Result<i32, Error> {
    signal::number(name).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        Error::invalid("signal", format!("there is no signal {name:?}"))
    })
}

pub(in crate::http_api) async fn signal(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(body): JsonBody<SignalMachine>,
) -> Answer {
    let number = match body.signal {
        SignalName::Name(name) => signal_number(&name)?,
        SignalName::Number(number) if signal::is_valid(number) => number,
        SignalName::Number(number) => signal_number(&number.to_string())?,
    };
    machines::signal(&platform, &app, &machine, number).await.map(|()| OK)
}

pub(in crate::http_api) async fn cordon(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Answer {
    machines::cordon(&platform, &app, &machine, true).await.map(|()| OK)
}

pub(in crate::http_api) async fn uncordon(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Answer {
    machines::cordon(&platform, &app, &machine, false).await.map(|()| OK)
}

pub(in crate::http_api) async fn wait(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Result<Json<WaitResult>, Error> {
    let request = WaitRequest {
        states: query.list("state"),
        version: query.get("version").or(query.get("instance_id")).map(str::to_owned),
        from_event: query.get("from_event_id").map(str::to_owned),
        timeout: query.duration("timeout")?,
    };
    machines::wait(&platform, &app, &machine, request).await.map(Json)
}
