//! Waiting for a state (R050): one long poll, answered by the host's push.

use super::query::Params;
use super::{Api, ApiError};
use axum::Json;
use axum::extract::{Path, State};
use std::time::Duration;
use wire::machines::WaitResult;
use wire::worker::WaitFor;

const LONGEST: Duration = Duration::from_secs(60);
const STATES: [&str; 7] =
    ["created", "started", "stopped", "suspended", "destroyed", "failed", "settled"];

pub(super) async fn wait(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    query: Params,
) -> Result<Json<WaitResult>, ApiError> {
    let mut states = query.list("state");
    if states.is_empty() {
        states.push("started".into());
    }
    if let Some(state) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
        let (state, known): (String, _) = (state.chars().take(40).collect(), STATES.join(", "));
        return Err(ApiError::invalid(format!("state: must be of {known}, not {state:?}")));
    }
    // Longer times are cut, as clients of the platform cut them themselves (Q023).
    let timeout = query.duration("timeout")?.unwrap_or(LONGEST).min(LONGEST);
    let wait = WaitFor {
        states,
        version: query.get("version").or(query.get("instance_id")).map(str::to_owned),
        from_event: query.get("from_event_id").map(str::to_owned),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let found = api.find(&app, &machine).await?;
    Ok(Json(found.host.wait(&found.id, wait).await?))
}
