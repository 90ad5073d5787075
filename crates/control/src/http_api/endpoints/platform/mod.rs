//! Hosts and regions of the platform, and the token of the request.

pub(in crate::http_api) mod images;

use crate::http_api::Authenticated;
use crate::http_api::caller::Acting;
use crate::{Error, hosts, orgs};
use axum::{Extension, Json};
use serde_json::{Value, json};
use wire::platform::HostInfo;

/// What each host has and uses.
pub(in crate::http_api) async fn hosts(
    Acting(platform): Acting,
) -> Result<Json<Vec<HostInfo>>, Error> {
    let infos = hosts::infos_with_usage(&platform).await?;
    Ok(Json(infos.into_iter().map(HostInfo::from).collect()))
}

/// Regions that have hosts. Where they lie is not known.
pub(in crate::http_api) async fn regions(Acting(platform): Acting) -> Result<Json<Value>, Error> {
    let regions = hosts::regions(&platform).await?;
    let nearest = regions.first().map(|region| region.code.clone()).unwrap_or_default();
    let show = |region: hosts::Region| {
        json!({
            "name": region.code, "code": region.code, "latitude": 0.0, "longitude": 0.0,
            "gateway_available": false, "requires_paid_plan": false, "deprecated": false,
            "capacity": region.capacity, "geo_region": "", "mpg_available": false,
        })
    };
    let regions: Vec<Value> = regions.into_iter().map(show).collect();
    Ok(Json(json!({ "Regions": regions, "Nearest": nearest })))
}

pub(in crate::http_api) async fn token(
    Extension(Authenticated(token)): Extension<Authenticated>,
) -> Json<Value> {
    let id: String = token.sha256.chars().take(12).collect();
    Json(json!({ "tokens": [{
        "token_id": id, "name": token.name, "type": token.kind,
        "org_slug": orgs::DEFAULT_ORG, "organization": orgs::DEFAULT_ORG,
    }] }))
}
