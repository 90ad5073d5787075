//! Hosts and regions of the platform.

pub(in crate::http_api) mod images;

use crate::http_api::caller::Acting;
use crate::{Error, hosts};
use axum::Json;
use wire::platform::{HostInfo, Region, RegionList};

/// What each host has and uses.
pub(in crate::http_api) async fn hosts(
    Acting(platform): Acting,
) -> Result<Json<Vec<HostInfo>>, Error> {
    let infos = hosts::infos_with_usage(&platform).await?;
    Ok(Json(infos.into_iter().map(HostInfo::from).collect()))
}

/// Regions that have hosts. Where they lie is not known.
pub(in crate::http_api) async fn regions(
    Acting(platform): Acting,
) -> Result<Json<RegionList>, Error> {
    let regions = hosts::regions(&platform).await?;
    let nearest = regions.first().map(|region| region.code.clone()).unwrap_or_default();
    let show = |region: hosts::Region| Region {
        name: region.code.clone(),
        code: region.code,
        capacity: region.capacity,
        ..Region::default()
    };
    Ok(Json(RegionList { regions: regions.into_iter().map(show).collect(), nearest }))
}
