//! The busy lease of a machine.

use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use wire::machines::{Busy, HoldBusy};

type At = Path<(String, String)>;

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<Busy>, Error> {
    machines::busy(&platform, &app, &machine).await.map(Json)
}

pub(in crate::http_api) async fn hold(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(ask): JsonBody<HoldBusy>,
) -> Result<Json<Busy>, Error> {
    machines::hold_busy(&platform, &app, &machine, ask.ttl).await.map(Json)
}

pub(in crate::http_api) async fn end(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<Busy>, Error> {
    machines::end_busy(&platform, &app, &machine).await.map(Json)
}
