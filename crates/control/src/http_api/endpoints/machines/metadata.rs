//! Labels of a machine, one by one or in bulk.

use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use host_api::ChangeMetadata;
use std::collections::BTreeMap;
use wire::machines::{MetadataChange, MetadataValue};

type At = Path<(String, String)>;
type AtKey = Path<(String, String, String)>;
type Answer = Result<StatusCode, Error>;

pub(in crate::http_api) async fn all(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<BTreeMap<String, String>>, Error> {
    machines::metadata(&platform, &app, &machine).await.map(Json)
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, machine, key)): AtKey,
) -> Result<Json<MetadataValue>, Error> {
    let value = machines::metadata(&platform, &app, &machine).await?.remove(&key);
    let absent = || {
        let key: String = key.chars().take(80).collect();
        Error::not_found(format!("metadata key {key:?} is not set"))
    };
    Ok(Json(MetadataValue { value: value.ok_or_else(absent)? }))
}

/// An empty value is a value here; only the bulk calls delete by it.
pub(in crate::http_api) async fn set(
    Acting(platform): Acting,
    Path((app, machine, key)): AtKey,
    JsonBody(body): JsonBody<MetadataValue>,
) -> Answer {
    let change = ChangeMetadata::Merge(BTreeMap::from([(key, Some(body.value))]));
    machines::change_metadata(&platform, &app, &machine, change, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http_api) async fn unset(
    Acting(platform): Acting,
    Path((app, machine, key)): AtKey,
) -> Answer {
    let change = ChangeMetadata::Merge(BTreeMap::from([(key, None)]));
    machines::change_metadata(&platform, &app, &machine, change, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http_api) async fn replace(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(body): JsonBody<MetadataChange>,
) -> Answer {
    let set = body.metadata.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let change = ChangeMetadata::Replace(set.filter(|(_, value)| !value.is_empty()).collect());
    let version = body.machine_version.as_deref();
    machines::change_metadata(&platform, &app, &machine, change, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http_api) async fn merge(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(body): JsonBody<MetadataChange>,
) -> Answer {
    // The empty text deletes, as null does.
    let change = body.metadata.into_iter();
    let change = change.map(|(key, value)| (key, value.filter(|value| !value.is_empty())));
    let change = ChangeMetadata::Merge(change.collect());
    let version = body.machine_version.as_deref();
    machines::change_metadata(&platform, &app, &machine, change, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
