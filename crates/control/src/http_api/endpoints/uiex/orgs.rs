//! `/api/v1/organizations`: organizations as flyctl asks for them before it resolves an image.

use crate::http_api::caller::Acting;
use crate::{Error, apps, orgs};
use axum::Json;
use axum::extract::Path;
use wire::orgs::Org;
use wire::uiex::{UiexOrg, UiexOrgList, UiexOrgShown};

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
) -> Result<Json<UiexOrgList>, Error> {
    let organizations = apps::organizations(&platform).await?;
    Ok(Json(UiexOrgList { organizations: organizations.into_iter().map(shown).collect() }))
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<Json<UiexOrgShown>, Error> {
    let organization = match orgs::visible(&platform, &org).await {
        Ok(record) => orgs::show(&record),
        Err(err) => apps::organization_of_apps(&platform, &org).await?.ok_or(err)?,
    };
    Ok(Json(UiexOrgShown { organization: shown(organization) }))
}

fn shown(org: Org) -> UiexOrg {
    let Org { slug, name, internal_numeric_id, .. } = org;
    UiexOrg {
        id: slug.clone(),
        internal_numeric_id,
        personal: slug == orgs::DEFAULT_ORG,
        raw_slug: slug.clone(),
        slug,
        name,
        billable: true,
        paid_plan: true,
        billing_status: "CURRENT".into(),
        provisions_beta_extensions: false,
        remote_builder_image: String::new(),
    }
}
