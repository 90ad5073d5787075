//! `/api/v1/organizations`: organizations as flyctl asks for them before it resolves an image.

use crate::http_api::caller::Acting;
use crate::{Error, Platform, apps, orgs};
use axum::Json;
use axum::extract::Path;
use wire::uiex::{UiexOrg, UiexOrgList, UiexOrgShown};

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
) -> Result<Json<UiexOrgList>, Error> {
    let orgs = orgs::list(&platform).await?.orgs.into_iter();
    let shown = orgs.map(|org| shown(org.slug, org.name, org.internal_numeric_id));
    Ok(Json(UiexOrgList { organizations: shown.collect() }))
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<Json<UiexOrgShown>, Error> {
    let organization = match orgs::visible(&platform, &org).await {
        Ok(record) => {
            let org = orgs::show(&record);
            shown(org.slug, org.name, org.internal_numeric_id)
        }
        Err(err) => of_an_app(&platform, &org).await?.ok_or(err)?,
    };
    Ok(Json(UiexOrgShown { organization }))
}

/// An organization that the caller may not read, as the apps in it show it that the caller may
/// read: a token for one app asks for its organization, too, before it deploys.
async fn of_an_app(platform: &Platform, slug: &str) -> Result<Option<UiexOrg>, Error> {
    let apps = apps::list(platform, None, None).await?.apps;
    let org = apps.into_iter().map(|app| app.organization).find(|org| org.slug == slug);
    Ok(org.map(|org| shown(org.slug, org.name, org.internal_numeric_id)))
}

fn shown(slug: String, name: String, internal_numeric_id: i32) -> UiexOrg {
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
