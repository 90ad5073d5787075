//! `/v1/apps/{app}/volumes`. See <https://fly.io/docs/machines/api/volumes-resource/>.

use crate::Error;
use crate::http_api::answer::JsonList;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::http_api::warnings::Warnings;
use crate::volumes::{self, OrgFilter};
use axum::Json;
use axum::extract::Path;
use wire::machines::{
    CreateVolume, ExtendVolume, OrgVolumes, UpdateVolume, Volume, VolumeExtended,
};

type At = Path<(String, String)>;

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<JsonList<Volume>, Error> {
    // It is short with and without it.
    query.flag("summary")?;
    volumes::list(&platform, &app).await.map(JsonList)
}

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    Path(app): Path<String>,
    warnings: Warnings,
    JsonBody(ask): JsonBody<CreateVolume>,
) -> Result<Json<Volume>, Error> {
    let created = volumes::create(&platform, &app, ask).await?;
    warnings.extend(created.warnings);
    Ok(Json(created.volume))
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, volume)): At,
) -> Result<Json<Volume>, Error> {
    volumes::get(&platform, &app, &volume).await.map(Json)
}

pub(in crate::http_api) async fn update(
    Acting(platform): Acting,
    Path((app, volume)): At,
    warnings: Warnings,
    JsonBody(ask): JsonBody<UpdateVolume>,
) -> Result<Json<Volume>, Error> {
    let changes = ask != UpdateVolume::default();
    let volume = volumes::update(&platform, &app, &volume, ask).await?;
    let unsaved = "no snapshots are taken yet: the setting is kept for when they are";
    warnings.extend(changes.then(|| unsaved.to_owned()));
    Ok(Json(volume))
}

pub(in crate::http_api) async fn destroy(
    Acting(platform): Acting,
    Path((app, volume)): At,
) -> Result<Json<Volume>, Error> {
    volumes::destroy(&platform, &app, &volume).await.map(Json)
}

pub(in crate::http_api) async fn extend(
    Acting(platform): Acting,
    Path((app, volume)): At,
    warnings: Warnings,
    JsonBody(ask): JsonBody<ExtendVolume>,
) -> Result<Json<VolumeExtended>, Error> {
    let extended = volumes::extend(&platform, &app, &volume, ask).await?;
    warnings.extend(extended.warnings);
    Ok(Json(extended.answer))
}

/// The volumes of an organization, over all its apps.
pub(in crate::http_api) async fn of_org(
    Acting(platform): Acting,
    Path(org): Path<String>,
    query: Params,
) -> Result<Json<OrgVolumes>, Error> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let filter =
        OrgFilter { region: text("region"), cursor: text("cursor"), limit: query.number("limit")? };
    volumes::list_org(&platform, &org, filter).await.map(Json)
}
