//! `/api/v1/organizations`: organizations as flyctl asks for them before it resolves an image.

use crate::http_api::caller::Acting;
use crate::{Error, Platform, apps, orgs};
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
    let found = match orgs::visible(&platform, &org).await {
        Ok(record) => orgs::show(&record),
        Err(err) => of_an_app(&platform, &org).await?.ok_or(err)?,
    };
    Ok(Json(UiexOrgShown { organization: shown(found) }))
}

/// An organization that the caller may not read, as the apps in it show it that the caller may
/// read: a token for one app asks for its organization, too, before it deploys.
async fn of_an_app(platform: &Platform, slug: &str) -> Result<Option<Org>, Error> {
    let apps = apps::list(platform, None, None).await?.apps;
    let org = apps.into_iter().map(|app| app.organization).find(|org| org.slug == slug);
    Ok(org.map(|org| Org {
        id: org.slug.clone(),
        kind: String::new(),
        name: org.name,
        internal_numeric_id: org.internal_numeric_id,
        slug: org.slug,
    }))
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
