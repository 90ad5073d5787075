//! What the platform consists of, and who asks.

use super::create::answered;
use super::setup::DEFAULT_ORG;
use super::{Api, ApiError};
use crate::records::TokenRecord;
use crate::rules;
use axum::extract::State;
use axum::{Extension, Json};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wire::worker::HostInfo;

/// What each host has and uses.
pub(super) async fn hosts(State(api): State<Api>) -> Result<Json<Vec<HostInfo>>, ApiError> {
    let hosts = api.world.hosts.all();
    let asked = hosts.iter().map(|(_, host)| host.info_with_usage());
    Ok(Json(answered(join_all(asked).await)?))
}

/// Regions that have hosts; `capacity` is how many of the smallest machines
/// there is memory for. Where they lie is not known.
pub(super) async fn regions(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let mut capacity: BTreeMap<String, u64> = BTreeMap::new();
    let mut nearest = None;
    for host in api.host_infos().await? {
        *capacity.entry(host.region.clone()).or_default() += rules::free(&host) / 256;
        nearest.get_or_insert(host.region);
    }
    let region = |(code, capacity): (String, u64)| {
        json!({
            "name": code, "code": code, "latitude": 0.0, "longitude": 0.0,
            "gateway_available": false, "requires_paid_plan": false, "deprecated": false,
            "capacity": capacity, "geo_region": "", "mpg_available": false,
        })
    };
    let regions: Vec<Value> = capacity.into_iter().map(region).collect();
    Ok(Json(json!({ "Regions": regions, "Nearest": nearest.unwrap_or_default() })))
}

pub(super) async fn token(Extension(token): Extension<TokenRecord>) -> Json<Value> {
    let id = &token.sha256[..12];
    Json(json!({ "tokens": [{
        "token_id": id, "name": token.name, "type": token.kind,
        "org_slug": DEFAULT_ORG, "organization": DEFAULT_ORG,
    }] }))
}
