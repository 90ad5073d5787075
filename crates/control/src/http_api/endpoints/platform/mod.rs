//! Hosts and regions of the platform.

pub(in crate::http_api) mod images;

use crate::http_api::caller::Acting;
use crate::{Error, hosts};
use axum::Json;
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
