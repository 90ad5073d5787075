//! An app's secrets as clients see them.

use super::{open, permit_values, record, scope};
use crate::error::shortened;
use crate::{Error, Platform, lookup};
use rt::clock::rfc3339;
use store::records::{AppRecord, AppSecretsRecord, SecretRecord};
use wire::secrets::{AppSecret, AppSecrets, SecretScope};

/// How secrets are to be shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// With their values.
    pub show_values: bool,
    /// Refuse if the app's secrets are older than this version.
    pub min_version: Option<u64>,
}

/// All secrets of an app, by name.
///
/// # Errors
/// There is no such app, values may not be shown, or the secrets are too old.
pub async fn list(platform: &Platform, app: &str, query: Query) -> Result<AppSecrets, Error> {
    let app = lookup::app(platform, app).await?.record;
    let record = current(platform, &app, query).await?;
    let mut shown = shown_all(&record);
    if query.show_values {
        for (shown, secret) in shown.secrets.iter_mut().zip(&record.secrets) {
            shown.value = Some(open(platform, app.id, secret)?);
        }
    }
    Ok(shown)
}

/// One secret of an app.
///
/// # Errors
/// As [`list`], or there is no such secret.
pub async fn get(
    platform: &Platform,
    app: &str,
    name: &str,
    scope: Option<SecretScope>,
    query: Query,
) -> Result<AppSecret, Error> {
    let scope = scope::resolve(platform, app, scope, true).await?;
    let of = lookup::app(platform, app).await?.record;
    let record = current(platform, &of, query).await?;
    let found = record.secrets.iter().find(|s| s.name == name && s.scope == scope);
    let found = found.ok_or_else(|| no_secret(app, name))?;
    let mut shown = shown(found);
    if query.show_values {
        shown.value = Some(open(platform, of.id, found)?);
    }
    Ok(shown)
}

async fn current(
    platform: &Platform,
    app: &AppRecord,
    query: Query,
) -> Result<AppSecretsRecord, Error> {
    if query.show_values {
        permit_values(platform, app).await?;
    }
    let record = record(platform, app.id).await?.map(|stored| stored.record);
    check_version(platform, "min_version", record.as_ref(), query.min_version)?;
    Ok(record.unwrap_or_default())
}

/// Refuses if the app's secrets are older than `wanted`. An app that never had any has the
/// latest: a client may know a version of a store that was lost since.
pub(super) fn check_version(
    platform: &Platform,
    field: &str,
    record: Option<&AppSecretsRecord>,
    wanted: Option<u64>,
) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    let current = record.map_or_else(|| platform.clock().now_ms(), |record| record.version);
    if wanted <= current {
        return Ok(());
    }
    let why = format!("the app's secrets are at version {current}, not at {wanted} yet");
    Err(Error::invalid(field, why).hint("use the version that the change of the secrets answered"))
}

pub(super) fn no_secret(app: &str, name: &str) -> Error {
    Error::not_found(format!("app {app:?} has no secret {:?}", shortened(name, 80)))
        .hint(format!("`updraft secrets list -a {app}` shows the secrets of the app"))
}

pub(super) fn shown_all(record: &AppSecretsRecord) -> AppSecrets {
    AppSecrets {
        secrets: record.secrets.iter().map(shown).collect(),
        version: Some(record.version),
    }
}

pub(super) fn shown(secret: &SecretRecord) -> AppSecret {
    AppSecret {
        name: secret.name.clone(),
        digest: secret.digest.clone(),
        value: None,
        created_at: Some(rfc3339(secret.created_ms)),
        updated_at: Some(rfc3339(secret.updated_ms)),
        scope: secret.scope.clone(),
        since_version: Some(secret.version),
    }
}
