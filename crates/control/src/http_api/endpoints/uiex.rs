//! `/api/v1/organizations`: organizations as flyctl asks for them before it resolves an image.

use crate::http_api::caller::Acting;
use crate::{Error, orgs};
use axum::Json;
use axum::extract::Path;
use wire::orgs::Org;
use wire::uiex::{UiexOrg, UiexOrgList, UiexOrgShown};

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
) -> Result<Json<UiexOrgList>, Error> {
    let organizations = orgs::list(&platform).await?.orgs.into_iter().map(shown).collect();
    Ok(Json(UiexOrgList { organizations }))
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<Json<UiexOrgShown>, Error> {
    let organization = shown(orgs::show(&orgs::get(&platform, &org).await?));
    Ok(Json(UiexOrgShown { organization }))
}

fn shown(org: Org) -> UiexOrg {
    UiexOrg {
        id: org.id,
        internal_numeric_id: org.internal_numeric_id,
        personal: org.slug == orgs::DEFAULT_ORG,
        raw_slug: org.slug.clone(),
        slug: org.slug,
        name: org.name,
        billable: true,
        paid_plan: true,
        billing_status: "CURRENT".into(),
        provisions_beta_extensions: false,
        remote_builder_image: String::new(),
    }
}
