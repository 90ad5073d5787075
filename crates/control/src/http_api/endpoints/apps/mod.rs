//! `/v1/apps`. See <https://fly.io/docs/machines/api/apps-resource/>.

mod log_query;
pub(in crate::http_api) mod logs;
pub(in crate::http_api) mod secret_keys;
pub(in crate::http_api) mod secrets;
pub(in crate::http_api) mod tokens;
pub(in crate::http_api) mod volumes;

use crate::http_api::audit::AboutOrg;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::{Error, apps};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::{Extension, Json};
use wire::machines::{App, AppList, CreateApp, Done};

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<CreateApp>,
) -> Result<(StatusCode, Extension<AboutOrg>, Json<serde_json::Value>), Error> {
    let created = apps::create(&platform, ask).await?;
    let org = created.app.as_ref().map(|app| app.organization.slug.clone()).unwrap_or_default();
    // By way of a value: both parts have an `id`, and it is to be written once.
    let json = serde_json::to_value(created);
    let json = json.map_err(|err| Error::internal(format!("write the answer: {err}")))?;
    Ok((StatusCode::CREATED, Extension(AboutOrg(org)), Json(json)))
}

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    query: Params,
) -> Result<Json<AppList>, Error> {
    apps::list(&platform, query.get("org_slug"), query.get("app_role")).await.map(Json)
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path(app): Path<String>,
) -> Result<Json<App>, Error> {
    apps::get(&platform, &app).await.map(Json)
}

/// Deletes the app with its machines, running or not: `force` is accepted and
/// changes nothing, as clients mean it without.
pub(in crate::http_api) async fn destroy(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<(StatusCode, Json<Done>), Error> {
    query.flag("force")?;
    apps::request_deletion(&platform, &app).await?;
    Ok((StatusCode::ACCEPTED, Json(Done { ok: true })))
}
