//! Labels of a machine, which are changed without a new version.

use super::record::{expect_change, update_record};
use crate::error::shortened;
use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT};
use crate::{Error, Platform, config, lookup};
use host_api::ChangeMetadata;
use std::collections::BTreeMap;

/// All labels.
///
/// # Errors
/// There is no such machine, or its host failed.
pub async fn get(
    platform: &Platform,
    app: &str,
    machine: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let shown = found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.machine(context, id).await)
        .await?;
    Ok(shown.config.and_then(|config| config.metadata.clone()).unwrap_or_default())
}

/// Changes labels; with `version` only if that is the current version.
///
/// # Errors
/// A label is not valid, the version is not current, or as [`get`].
pub async fn change(
    platform: &Platform,
    app: &str,
    machine: &str,
    change: ChangeMetadata,
    version: Option<&str>,
) -> Result<(), Error> {
    check(&change)?;
    let version = version.filter(|version| !version.is_empty()).map(str::parse).transpose();
    let version = version
        .map_err(|err: model::id::BadId| Error::invalid("machine_version", err.to_string()))?;
    let found = lookup::machine(platform, app, machine).await?;
    expect_change(platform, found.id).await?;
    let changed = found.call(platform, CHANGE_TIMEOUT, |host, context, id| {
        let change = change.clone();
        async move { host.change_metadata(context, id, change, version).await }
    });
    let changed = changed.await;
    // The record holds the config for the case that the host is lost; if it cannot be
    // brought up to date here, the reconciler does it, as after a change that failed.
    let shown = found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.machine(context, id).await)
        .await;
    let recorded = match shown {
        Ok(shown) => update_record(platform, found.id, &shown).await.map(drop),
        Err(err) => Err(err),
    };
    if let Err(err) = recorded {
        tracing::warn!(machine = %found.id, error = %err, "record the labels of a machine");
    }
    changed
}

fn check(change: &ChangeMetadata) -> Result<(), Error> {
    let entries: Vec<(&String, &str)> = match change {
        ChangeMetadata::Merge(keys) => {
            keys.iter().map(|(key, value)| (key, value.as_deref().unwrap_or_default())).collect()
        }
        ChangeMetadata::Replace(keys) => keys.iter().map(|(k, v)| (k, v.as_str())).collect(),
    };
    for (key, value) in entries {
        config::metadata_entry(key, value)
            .map_err(|rule| Error::invalid(format!("metadata.{}", shortened(key, 80)), rule))?;
    }
    Ok(())
}
