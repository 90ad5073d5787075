//! `…/runs`: the runs of a machine with a schedule. An addition.

use crate::http_api::caller::Acting;
use crate::http_api::extract::Params;
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use wire::machines::ScheduleRun;

type At = Path<(String, String)>;

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Result<Json<Vec<ScheduleRun>>, Error> {
    machines::runs(&platform, &app, &machine, query.number("limit")?).await.map(Json)
}

/// A body is not looked at.
pub(in crate::http_api) async fn begin(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<ScheduleRun>, Error> {
    machines::run_now(&platform, &app, &machine).await.map(Json)
}
