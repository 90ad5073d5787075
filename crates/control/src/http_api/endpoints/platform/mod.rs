//! Hosts and regions of the platform.

pub(in crate::http_api) mod images;

use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::http_api::warnings::Warnings;
use crate::placement::{self, Planned, Regions, Wanted, Weights};
use crate::{Error, Kind, config, hosts, orgs};
use axum::Json;
use model::size::Size;
use wire::machines::Guest;
use wire::platform::{
    AskPlacements, HostInfo, HostNames, Placements, Region, RegionList, RegionPlacement,
};

/// Machines of one plan.
const MAX_PLACEMENTS: u32 = 10_000;

/// What each host has and uses.
pub(in crate::http_api) async fn hosts(
    Acting(platform): Acting,
) -> Result<Json<Vec<HostInfo>>, Error> {
    let infos = hosts::infos_with_usage(&platform).await?;
    Ok(Json(infos.into_iter().map(HostInfo::from).collect()))
}

/// Regions that have hosts, with what is known of their cities.
pub(in crate::http_api) async fn regions(
    Acting(platform): Acting,
    query: Params,
) -> Result<Json<RegionList>, Error> {
    let size = size_of_query(&query)?;
    let (regions, nearest) = hosts::regions(&platform, size.memory_mb).await?;
    Ok(Json(RegionList { regions: regions.into_iter().map(show).collect(), nearest }))
}

/// The API under host names of Fly.io.
pub(in crate::http_api) async fn host_names(
    Acting(platform): Acting,
) -> Result<Json<HostNames>, Error> {
    platform.config().host_names.show().map(Json)
}

fn show(region: hosts::Region) -> Region {
    let hosts::Region { code, capacity } = region;
    let mut shown =
        Region { name: code.clone(), code: code.clone(), capacity, ..Region::default() };
    if let Some(city) = model::region::city(&code) {
        city.name.clone_into(&mut shown.name);
        city.part.name().clone_into(&mut shown.geo_region);
        (shown.latitude, shown.longitude) = (city.latitude, city.longitude);
    }
    shown
}

fn size_of_query(query: &Params) -> Result<Size, Error> {
    let text = |name| query.get(name).map(str::to_owned);
    let guest = Guest {
        cpu_kind: text("cpu_kind"),
        cpus: query.number("cpus")?,
        memory_mb: query.number("memory_mb")?,
        ..Guest::default()
    };
    if query.number::<u32>("gpus")?.is_some_and(|gpus| gpus > 0) || query.get("gpu_kind").is_some()
    {
        return Err(Error::new(Kind::Unsupported, "gpus: GPUs are not supported"));
    }
    config::size("", text("size"), (guest != Guest::default()).then_some(guest))
}

/// Where machines would be placed; nothing is reserved.
pub(in crate::http_api) async fn placements(
    Acting(platform): Acting,
    warnings: Warnings,
    JsonBody(ask): JsonBody<AskPlacements>,
) -> Result<Json<Placements>, Error> {
    if let Some(org) = ask.org_slug.as_deref().filter(|org| !org.is_empty()) {
        orgs::visible(&platform, org).await?;
    }
    let has_volumes = ask.volume_name.as_ref().is_some_and(|name| !name.is_empty())
        || ask.volume_size_bytes.is_some_and(|bytes| bytes > 0);
    if has_volumes {
        let text = "volume_name, volume_size_bytes: placements do not consider volumes yet";
        warnings.extend([text.to_owned()]);
    }
    let size = config::size("compute.", None, ask.compute)?;
    let region = ask.region.filter(|region| !region.is_empty());
    let regions = Regions::parse("region", region.as_deref().unwrap_or("[nearest],any"))?;
    let count = match ask.count.unwrap_or(0) {
        0 => MAX_PLACEMENTS,
        count if count <= MAX_PLACEMENTS => count,
        _ => return Err(Error::invalid("count", format!("must be at most {MAX_PLACEMENTS}"))),
    };
    let given = ask.weights.unwrap_or_default();
    let default = Weights::default();
    let weights = Weights {
        region: given.region.unwrap_or(default.region),
        spread: given.spread.unwrap_or(default.spread),
    };
    let wanted = Wanted { regions, memory_mb: size.memory_mb, launch: true };
    let infos = hosts::infos(&platform).await?;
    let planned = placement::plan(&infos, &wanted, count, weights)?;
    let shown = planned.into_iter().map(|Planned { region, count, hosts }| RegionPlacement {
        region,
        count,
        concurrency: hosts,
    });
    Ok(Json(Placements { regions: shown.collect() }))
}
