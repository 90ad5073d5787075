//! Changes of an app's secrets: read, change, compare and write of its record.

use super::rules::{check_all, check_new_name, check_value};
use super::{next_version, place, read, scope};
use crate::retry::{self, OfApp};
use crate::{Error, Platform, lookup};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::id::AppId;
use std::collections::BTreeMap;
use store::records::{self, AppSecretsRecord, SecretRecord};
use wire::secret::Secret;
use wire::secrets::{AppSecrets, ChangeSecrets, SecretChanged, SecretScope, SetSecret};
use zeroize::Zeroizing;

/// Secrets of one request.
const MAX_VALUES: usize = 500;

/// Sets (a value) and removes (none) secrets, all of them or none. Running machines keep
/// what they have; each is given the new values at its next start.
///
/// # Errors
/// A name, value or scope is not valid, or there would be too many.
pub async fn change(
    platform: &Platform,
    app: &str,
    change: ChangeSecrets,
) -> Result<AppSecrets, Error> {
    let ChangeSecrets { values, scope } = change;
    if values.is_empty() || values.len() > MAX_VALUES {
        let rule = format!("must have 1 to {MAX_VALUES} names, not {}", values.len());
        return Err(Error::invalid("values", rule));
    }
    for (name, value) in &values {
        let field = format!("values.{}", name.chars().take(80).collect::<String>());
        match value {
            Some(value) => {
                check_new_name(&field, name)?;
                check_value(&field, value)?;
            }
            None => super::check_name(&field, name)?,
        }
    }
    let removes_only = values.values().all(Option::is_none);
    let scope = scope::resolve(platform, app, scope, removes_only).await?;
    let (_, record) = write(platform, app, values, scope).await?;
    Ok(read::shown_all(&record))
}

/// Sets one secret.
///
/// # Errors
/// As [`change()`].
pub async fn set(
    platform: &Platform,
    app: &str,
    name: &str,
    set: SetSecret,
) -> Result<SecretChanged, Error> {
    let value = set.value.ok_or_else(|| Error::invalid("value", "is required"))?;
    check_new_name("name", name)?;
    check_value("value", &value)?;
    let scope = scope::resolve(platform, app, set.scope, false).await?;
    let values = BTreeMap::from([(name.to_owned(), Some(value))]);
    let (_, record) = write(platform, app, values, scope.clone()).await?;
    let stored = find(&record, name, scope.as_ref());
    Ok(SecretChanged { secret: stored.map(read::shown), version: record.version })
}

/// Sets one secret to 32 random bytes in hex.
///
/// # Errors
/// As [`change()`].
pub async fn generate(platform: &Platform, app: &str, name: &str) -> Result<SecretChanged, Error> {
    let random = Zeroizing::new(platform.rng().bytes(32));
    let value = Some(Secret::new(hex::encode(&*random)));
    set(platform, app, name, SetSecret { value, scope: None }).await
}

/// Removes one secret.
///
/// # Errors
/// There is no such secret.
pub async fn remove(
    platform: &Platform,
    app: &str,
    name: &str,
    scope: Option<SecretScope>,
) -> Result<SecretChanged, Error> {
    let scope = scope::resolve(platform, app, scope, true).await?;
    let found = lookup::app(platform, app).await?.record;
    let stored = super::record(platform, found.id).await?.map(|stored| stored.record);
    if stored.is_none_or(|record| find(&record, name, scope.as_ref()).is_none()) {
        return Err(read::no_secret(app, name));
    }
    let values = BTreeMap::from([(name.to_owned(), None)]);
    let (_, record) = write(platform, app, values, scope).await?;
    Ok(SecretChanged { secret: None, version: record.version })
}

fn find<'a>(
    record: &'a AppSecretsRecord,
    name: &str,
    scope: Option<&SecretScope>,
) -> Option<&'a SecretRecord> {
    record.secrets.iter().find(|secret| secret.name == name && secret.scope.as_ref() == scope)
}

/// Writes the changes and sends them to the hosts; runs to its end also when the client
/// disconnects.
async fn write(
    platform: &Platform,
    app: &str,
    values: BTreeMap<String, Option<Secret>>,
    scope: Option<SecretScope>,
) -> Result<(AppId, AppSecretsRecord), Error> {
    let (own, app) = (platform.clone(), app.to_owned());
    platform
        .run_detached(async move {
            let (app, record, written) = try_write(&own, &app, &values, scope.as_ref()).await?;
            if written {
                // A host that does not answer is sent them by the reconciler.
                if let Err(err) = super::deliver_to_owners(&own, app).await {
                    tracing::warn!(%app, error = %err, "send changed secrets to the hosts");
                }
            }
            Ok((app, record))
        })
        .await
}

/// The app, its secrets after the changes, and whether there was anything to change.
async fn try_write(
    platform: &Platform,
    app: &str,
    values: &BTreeMap<String, Option<Secret>>,
    scope: Option<&SecretScope>,
) -> Result<(AppId, AppSecretsRecord, bool), Error> {
    let secrets = OfApp { key: records::secrets_key, name: "the list of the app's secrets" };
    retry::change_of_app(platform, app, secrets, |id, record: AppSecretsRecord| {
        match changed(platform, id, &record, values, scope)? {
            None => Ok(((id, record, false), None)),
            Some(record) => {
                check_all(&record.secrets)?;
                Ok(((id, record.clone(), true), Some(record)))
            }
        }
    })
    .await
}

/// The record after the changes; `None` if they change nothing.
fn changed(
    platform: &Platform,
    app: AppId,
    record: &AppSecretsRecord,
    values: &BTreeMap<String, Option<Secret>>,
    scope: Option<&SecretScope>,
) -> Result<Option<AppSecretsRecord>, Error> {
    let now_ms = platform.clock().now_ms();
    let version = next_version(record.version, now_ms);
    let mut secrets: BTreeMap<(String, Option<SecretScope>), SecretRecord> = record
        .secrets
        .iter()
        .map(|secret| ((secret.name.clone(), secret.scope.clone()), secret.clone()))
        .collect();
    for (name, value) in values {
        let at = (name.clone(), scope.cloned());
        let Some(value) = value else {
            secrets.remove(&at);
            continue;
        };
        let bytes = value.expose().as_bytes();
        let digest = platform.secrets_key().digest(&place(app, name, None), bytes);
        let earlier = secrets.get(&at);
        if earlier.is_some_and(|earlier| earlier.digest == digest) {
            continue;
        }
        let sealed = platform.secrets_key().seal(platform.rng(), &place(app, name, scope), bytes);
        let secret = SecretRecord {
            name: name.clone(),
            scope: scope.cloned(),
            digest,
            sealed: STANDARD.encode(sealed),
            size: bytes.len() as u64,
            created_ms: earlier.map_or(now_ms, |earlier| earlier.created_ms),
            updated_ms: now_ms,
            version,
        };
        secrets.insert(at, secret);
    }
    let secrets: Vec<SecretRecord> = secrets.into_values().collect();
    let is_same = secrets == record.secrets;
    Ok((!is_same).then_some(AppSecretsRecord { version, secrets }))
}
