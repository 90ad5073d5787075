//! The audit log; an addition to the Machines API.

use crate::http_api::caller::Acting;
use crate::http_api::extract::Params;
use crate::{Error, lookup};
use axum::Json;
use axum::extract::Path;
use wire::audit::AuditPage;

/// `GET /v1/orgs/{org}/audit`.
pub(in crate::http_api) async fn of_org(
    Acting(platform): Acting,
    Path(org): Path<String>,
    query: Params,
) -> Result<Json<AuditPage>, Error> {
    let (cursor, limit) = (query.get("cursor").map(str::to_owned), query.number("limit")?);
    let org = lookup::org(&platform, &org).await?.id.0;
    platform.config().audit.page(Some(org), cursor, limit).await.map(Json)
}

/// `GET /v1/platform/audit`: of all organizations, and of the platform itself.
pub(in crate::http_api) async fn of_platform(
    Acting(platform): Acting,
    query: Params,
) -> Result<Json<AuditPage>, Error> {
    let (cursor, limit) = (query.get("cursor").map(str::to_owned), query.number("limit")?);
    platform.config().audit.page(None, cursor, limit).await.map(Json)
}
