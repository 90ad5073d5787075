//! Images of the platform; an addition to the Machines API.

use crate::http_api::HttpApi;
use crate::http_api::caller::Acting;
use crate::http_api::endpoints::apps::logs::ndjson;
use crate::http_api::extract::{Params, upload};
use crate::{Error, images};
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use host_api::ImportName;
use wire::machines::{Done, Image, ImageProgress};

pub(in crate::http_api) async fn list(Acting(platform): Acting) -> Result<Json<Vec<Image>>, Error> {
    images::list(&platform).await.map(Json)
}

/// Imports the tar in the body; the answer is its progress, line by line, which
/// ends with `done` or `failed`.
pub(in crate::http_api) async fn import(
    State(api): State<HttpApi>,
    Acting(platform): Acting,
    query: Params,
    request: Request,
) -> Result<Response, Error> {
    let tar = upload(request.into_body(), api.config.body_timeout);
    let text = |key| query.get(key).filter(|text| !text.is_empty()).map(str::to_owned);
    let file_name = text("file");
    if file_name.as_deref().is_some_and(|name| !is_file_name(name)) {
        let rule = "must be the name of a file, without directories";
        return Err(Error::invalid("file", rule));
    }
    let name = ImportName { name: text("name"), file_name };
    Ok(ndjson::<ImageProgress>(images::import(&platform, name, tar).await?))
}

/// Longest name of a file on Linux.
const MAX_FILE_NAME: usize = 255;

fn is_file_name(name: &str) -> bool {
    name.len() <= MAX_FILE_NAME && !name.contains(|c: char| c == '/' || c.is_control())
}

pub(in crate::http_api) async fn remove(
    Acting(platform): Acting,
    query: Params,
) -> Result<Json<Done>, Error> {
    let reference = query.get("reference");
    let reference = reference.ok_or_else(|| Error::invalid("reference", "is required"))?;
    images::remove(&platform, reference).await?;
    Ok(Json(Done { ok: true }))
}

pub(in crate::http_api) async fn remove_path(
    Acting(platform): Acting,
    Path(reference): Path<String>,
) -> Result<Json<Done>, Error> {
    images::remove(&platform, &reference).await?;
    Ok(Json(Done { ok: true }))
}
