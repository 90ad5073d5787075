//! Images on the hosts.

use super::logs::ndjson;
use super::query::Params;
use super::{Api, ApiError};
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_util::StreamExt;
use std::io;
use tokio_util::io::StreamReader;
use wire::machines::{Done, Image, ImageProgress};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<Image>>, ApiError> {
    let hosts = api.world.hosts.all();
    let asked = hosts.iter().map(|(_, host)| host.images());
    let mut images: Vec<Image> = Vec::new();
    for image in futures_util::future::try_join_all(asked).await?.into_iter().flatten() {
        match images.iter_mut().find(|known| known.digest == image.digest) {
            Some(known) => {
                known.used_by += image.used_by;
                let new = image.references.into_iter();
                let new: Vec<_> = new.filter(|name| !known.references.contains(name)).collect();
                known.references.extend(new);
            }
            None => images.push(image),
        }
    }
    Ok(Json(images))
}

/// Imports the tar in the body; the answer is its progress, line by line,
/// which ends with `done` or `failed`.
pub(super) async fn import(
    State(api): State<Api>,
    query: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let body = request.into_body().into_data_stream();
    let tar = StreamReader::new(body.map(|chunk| chunk.map_err(io::Error::other)).boxed());
    // With several hosts the image has to be passed on; for now there is one.
    let host = api.world.hosts.all().into_iter().next().map(|(_, host)| host);
    let host = host.ok_or_else(|| ApiError::internal("there is no host"))?;
    let name = query.get("name").map(str::to_owned);
    let progress = host.import_image(name, Box::new(tar)).await?;
    Ok(ndjson::<ImageProgress>(progress))
}

pub(super) async fn remove(State(api): State<Api>, query: Params) -> Result<Json<Done>, ApiError> {
    let reference = query.get("reference");
    let reference = reference.ok_or_else(|| ApiError::invalid("reference: is required"))?;
    api.remove_image(reference).await
}

pub(super) async fn remove_path(
    State(api): State<Api>,
    Path(reference): Path<String>,
) -> Result<Json<Done>, ApiError> {
    api.remove_image(&reference).await
}

impl Api {
    async fn remove_image(&self, reference: &str) -> Result<Json<Done>, ApiError> {
        let mut removed = false;
        for (_, host) in self.world.hosts.all() {
            removed |= host.remove_image(reference).await?;
        }
        if !removed {
            let reference: String = reference.chars().take(200).collect();
            return Err(ApiError::not_found(format!("there is no image {reference:?}")));
        }
        Ok(Json(Done { ok: true }))
    }
}
