//! Labels of a machine (R058–R060): changed without a new version.

use super::body::JsonBody;
use super::{Api, ApiError};
use crate::rules::metadata_entry;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use wire::machines::{MetadataChange, MetadataValue};
use wire::worker::ChangeMetadata;

type Of = Path<(String, String)>;
type OfKey = Path<(String, String, String)>;

pub(super) async fn all(
    State(api): State<Api>,
    Path((app, machine)): Of,
) -> Result<Json<BTreeMap<String, String>>, ApiError> {
    Ok(Json(api.labels(&app, &machine).await?))
}

pub(super) async fn get(
    State(api): State<Api>,
    Path((app, machine, key)): OfKey,
) -> Result<Json<MetadataValue>, ApiError> {
    let value = api.labels(&app, &machine).await?.remove(&key);
    let absent = || {
        let key: String = key.chars().take(80).collect();
        ApiError::not_found(format!("metadata key {key:?} is not set"))
    };
    Ok(Json(MetadataValue { value: value.ok_or_else(absent)? }))
}

pub(super) async fn set(
    State(api): State<Api>,
    Path((app, machine, key)): OfKey,
    JsonBody(body): JsonBody<MetadataValue>,
) -> Result<StatusCode, ApiError> {
    let change = BTreeMap::from([(key, Some(body.value))]);
    api.relabel(&app, &machine, ChangeMetadata::Merge(change), None).await
}

pub(super) async fn unset(
    State(api): State<Api>,
    Path((app, machine, key)): OfKey,
) -> Result<StatusCode, ApiError> {
    let change = BTreeMap::from([(key, None)]);
    api.relabel(&app, &machine, ChangeMetadata::Merge(change), None).await
}

pub(super) async fn replace(
    State(api): State<Api>,
    Path((app, machine)): Of,
    JsonBody(body): JsonBody<MetadataChange>,
) -> Result<StatusCode, ApiError> {
    let set = body.metadata.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let set = set.filter(|(_, value)| !value.is_empty()).collect();
    api.relabel(&app, &machine, ChangeMetadata::Replace(set), body.machine_version).await
}

pub(super) async fn merge(
    State(api): State<Api>,
    Path((app, machine)): Of,
    JsonBody(body): JsonBody<MetadataChange>,
) -> Result<StatusCode, ApiError> {
    // The empty text deletes, as null does (R059).
    let change = body.metadata.into_iter();
    let change = change.map(|(key, value)| (key, value.filter(|value| !value.is_empty())));
    let change = ChangeMetadata::Merge(change.collect());
    api.relabel(&app, &machine, change, body.machine_version).await
}

impl Api {
    async fn labels(&self, app: &str, machine: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let found = self.find(app, machine).await?;
        let config = found.host.machine(&found.id).await?.config;
        Ok(config.and_then(|config| config.metadata).unwrap_or_default())
    }

    async fn relabel(
        &self,
        app: &str,
        machine: &str,
        change: ChangeMetadata,
        version: Option<String>,
    ) -> Result<StatusCode, ApiError> {
        let entries: Vec<(&String, &str)> = match &change {
            ChangeMetadata::Merge(keys) => {
                keys.iter().map(|(k, v)| (k, v.as_deref().unwrap_or_default())).collect()
            }
            ChangeMetadata::Replace(keys) => keys.iter().map(|(k, v)| (k, v.as_str())).collect(),
        };
        for (key, value) in entries {
            let invalid = |why| {
                let key: String = key.chars().take(80).collect();
                ApiError::invalid(format!("metadata.{key}: {why}"))
            };
            metadata_entry(key, value).map_err(invalid)?;
        }
        let found = self.find(app, machine).await?;
        let version = version.filter(|version| !version.is_empty());
        found.host.change_metadata(&found.id, change, version.as_deref()).await?;
        Ok(StatusCode::NO_CONTENT)
    }
}
