//! Leases. See <https://fly.io/docs/machines/api/machines-resource/#create-a-machine-lease>.
//!
//! All answers are 200: generated clients take no other success.

use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use wire::machines::{AskLease, LeaseAnswer, LeaseReleased};

type At = Path<(String, String)>;

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<LeaseAnswer>, Error> {
    machines::lease(&platform, &app, &machine).await.map(|lease| Json(lease.into()))
}

/// The time may be in the body or in the query; clients of the platform use either.
pub(in crate::http_api) async fn acquire(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
    JsonBody(mut ask): JsonBody<AskLease>,
) -> Result<Json<LeaseAnswer>, Error> {
    let in_query = query.number::<u64>("ttl")?;
    if let (Some(query), Some(body)) = (in_query, ask.ttl)
        && query != body
    {
        let rule = format!("is {body} in the body and {query} in the query; send one of them");
        return Err(Error::invalid("ttl", rule));
    }
    ask.ttl = in_query.or(ask.ttl);
    ask.description = ask.description.or(query.get("description").map(str::to_owned));
    machines::acquire_lease(&platform, &app, &machine, ask).await.map(|lease| Json(lease.into()))
}

pub(in crate::http_api) async fn release(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<LeaseReleased>, Error> {
    machines::release_lease(&platform, &app, &machine).await?;
    Ok(Json(LeaseReleased::default()))
}
