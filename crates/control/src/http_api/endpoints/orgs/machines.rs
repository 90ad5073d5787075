//! The machines of an organization, over all its apps.

use crate::http_api::caller::Acting;
use crate::http_api::extract::Params;
use crate::machines::OrgFilter;
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use wire::machines::OrgMachines;

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(org): Path<String>,
    query: Params,
) -> Result<Json<OrgMachines>, Error> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let filter = OrgFilter {
        include_deleted: query.flag("include_deleted")?,
        states: query.list("state"),
        region: text("region"),
        updated_after: text("updated_after"),
        summary: query.flag("summary")?,
        leases: query.flag("include_leases")?,
        cursor: text("cursor"),
        limit: query.number("limit")?,
    };
    machines::list_org(&platform, &org, filter).await.map(Json)
}
