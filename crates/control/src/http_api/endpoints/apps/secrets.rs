//! `/v1/apps/{app}/secrets`. Fields and paths: `docs/fly-reference.md#secrets`.

use crate::Error;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::secrets::{self, Query};
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use wire::secrets::{AppSecret, AppSecrets, ChangeSecrets, SecretChanged, SecretScope, SetSecret};

type At = Path<(String, String)>;

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<Json<AppSecrets>, Error> {
    secrets::list(&platform, &app, shown(&query)?).await.map(Json)
}

pub(in crate::http_api) async fn change(
    Acting(platform): Acting,
    Path(app): Path<String>,
    JsonBody(change): JsonBody<ChangeSecrets>,
) -> Result<Json<AppSecrets>, Error> {
    secrets::change(&platform, &app, change).await.map(Json)
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, name)): At,
    query: Params,
) -> Result<Json<AppSecret>, Error> {
    secrets::get(&platform, &app, &name, scope(&query)?, shown(&query)?).await.map(Json)
}

pub(in crate::http_api) async fn set(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(set): JsonBody<SetSecret>,
) -> Result<(StatusCode, Json<SecretChanged>), Error> {
    let changed = secrets::set(&platform, &app, &name, set).await?;
    Ok((StatusCode::CREATED, Json(changed)))
}

pub(in crate::http_api) async fn remove(
    Acting(platform): Acting,
    Path((app, name)): At,
    query: Params,
) -> Result<Json<SecretChanged>, Error> {
    secrets::remove(&platform, &app, &name, scope(&query)?).await.map(Json)
}

/// The documented name of the version is `min_version`, and that of fly-go `version`.
fn shown(query: &Params) -> Result<Query, Error> {
    let min_version = match query.number("min_version")? {
        None => query.number("version")?,
        given => given,
    };
    Ok(Query { show_values: query.flag("show_secrets")?, min_version })
}

fn scope(query: &Params) -> Result<Option<SecretScope>, Error> {
    match (query.get("group"), query.get("machine")) {
        (None, None) => Ok(None),
        (Some(group), None) => Ok(Some(SecretScope::Group(group.to_owned()))),
        (None, Some(machine)) => Ok(Some(SecretScope::Machine(machine.to_owned()))),
        (Some(_), Some(_)) => Err(Error::invalid("machine", "excludes group")),
    }
}
