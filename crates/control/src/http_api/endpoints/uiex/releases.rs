//! `/api/v1/releases` and `/api/v1/apps/{app}/releases`: releases as flyctl records and reads them.

use crate::http_api::audit::AboutOrg;
use crate::http_api::caller::{Acting, Authenticated};
use crate::http_api::extract::{JsonBody, Params};
use crate::releases::{self, NewRelease, ReleaseChange};
use crate::tokens::Found;
use crate::{Error, apps};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::{Extension, Json};
use rt::clock::rfc3339;
use store::records::ReleaseRecord;
use wire::uiex::{
    CreateUiexRelease, UiexCurrentReleases, UiexRelease, UiexReleaseCreated, UiexReleaseList,
    UpdateUiexRelease,
};

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    Extension(Authenticated(tokens)): Extension<Authenticated>,
    JsonBody(ask): JsonBody<CreateUiexRelease>,
) -> Result<(StatusCode, Extension<AboutOrg>, Json<UiexReleaseCreated>), Error> {
    let ask = NewRelease {
        app: ask.app_name,
        definition: ask.definition,
        image: ask.image.unwrap_or_default(),
        build_id: ask.build_id.unwrap_or_default(),
        strategy: ask.strategy.unwrap_or_default(),
        user: Found::holder(&tokens),
    };
    let made = releases::create(&platform, ask).await?;
    let body = UiexReleaseCreated { release: shown(made.release) };
    Ok((StatusCode::CREATED, Extension(AboutOrg(made.app.org)), Json(body)))
}

pub(in crate::http_api) async fn change(
    Acting(platform): Acting,
    Path(release): Path<String>,
    JsonBody(ask): JsonBody<UpdateUiexRelease>,
) -> Result<(Extension<AboutOrg>, Json<UiexRelease>), Error> {
    let change = ReleaseChange { status: ask.status, metadata: ask.metadata };
    let changed = releases::change(&platform, &release, change).await?;
    Ok((Extension(AboutOrg(changed.app.org)), Json(shown(changed.release))))
}

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<Json<UiexReleaseList>, Error> {
    let releases = releases::list(&platform, &app, query.number("limit")?).await?;
    Ok(Json(UiexReleaseList { releases: releases.into_iter().map(shown).collect() }))
}

pub(in crate::http_api) async fn current(
    Acting(platform): Acting,
    Path(app): Path<String>,
) -> Result<Json<UiexRelease>, Error> {
    let current = releases::current(&platform, &app).await?;
    let none = || Error::not_found(format!("app {app:?} has no release that is complete"));
    Ok(Json(shown(current.ok_or_else(none)?)))
}

pub(in crate::http_api) async fn all_current(
    Acting(platform): Acting,
) -> Result<Json<UiexCurrentReleases>, Error> {
    let apps = apps::readable_records(&platform).await?;
    let current = releases::all_current(&platform, &apps).await?.into_iter();
    let current = current.map(|(app, created_ms)| (app, rfc3339(created_ms)));
    Ok(Json(UiexCurrentReleases(current.collect())))
}

fn shown(release: ReleaseRecord) -> UiexRelease {
    UiexRelease {
        id: release.id.to_string(),
        version: release.version,
        stable: release.status == model::release::Status::Complete,
        in_progress: release.status.is_in_progress(),
        status: release.status.to_string(),
        strategy: release.strategy.to_string(),
        user: release.user,
        created_at: rfc3339(release.created_ms),
        image_ref: release.image,
    }
}
