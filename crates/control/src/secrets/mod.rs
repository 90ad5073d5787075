//! Secrets of apps: values by name, sealed in the store, in one record per app whose
//! version grows with each change.
//!
//! - [`rules`] validates names, sizes and counts; [`change()`] and [`remove`] write the
//!   record, [`list`] and [`get`] read it.
//! - [`delivery`] opens the values for the hosts that start machines of the app: before
//!   each create, update, start and restart, and, for starts that control has no part in,
//!   after each change.
//! - [`requests`] checks the parts of a machine's config and of a request that name secrets.

mod change;
mod delivered;
mod delivery;
mod read;
mod requests;
mod rules;
mod scope;

pub use change::{change, generate, remove, set};
pub(crate) use delivered::Delivered;
pub(crate) use delivery::{Delivery, deliver_to_owners};
pub use read::{Query, get, list};
pub(crate) use requests::check_launch;
pub(crate) use rules::check_name;

use crate::access::{app_access, permit};
use crate::{Error, Platform};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use macaroon::{Access, Action};
use model::id::AppId;
use store::records::{self, AppRecord, AppSecretsRecord, SecretRecord, Stored};
use wire::secret::Secret;
use wire::secrets::SecretScope;

/// The part of an app that secrets are, for caveats of tokens.
const FEATURE: &str = "secrets";

/// The caller may be shown values of secrets, not only their digests: who may change them
/// can make a machine show them anyway.
async fn permit_values(platform: &Platform, app: &AppRecord) -> Result<(), Error> {
    let access = app_access(platform, app, Action::WRITE).await?;
    let access = Access { app_feature: Some(FEATURE.into()), ..access };
    permit(platform, &access, "values of secrets")
        .map_err(|err| err.hint("leave show_secrets out, or use a token that may write secrets"))
}

/// The context that a value is sealed for: it opens as this secret of this app only.
fn place(app: AppId, name: &str, scope: Option<&SecretScope>) -> String {
    match scope {
        None => format!("secret of app {app}: {name}"),
        Some(SecretScope::Group(group)) => format!("secret of app {app}, group {group}: {name}"),
        Some(SecretScope::Machine(id)) => format!("secret of app {app}, machine {id}: {name}"),
    }
}

/// Opens the value of a secret.
fn open(platform: &Platform, app: AppId, secret: &SecretRecord) -> Result<Secret, Error> {
    let failed = |why: String| Error::internal(format!("open the secret {}: {why}", secret.name));
    let sealed = STANDARD.decode(&secret.sealed).map_err(|_| failed("it is damaged".into()))?;
    let place = place(app, &secret.name, secret.scope.as_ref());
    let value = platform.secrets_key().open(&place, &sealed);
    let value = value.map_err(|err| failed(err.to_string()))?;
    let text = std::str::from_utf8(&value).map_err(|_| failed("it is damaged".into()))?;
    Ok(Secret::new(text))
}

/// The record of an app's secrets, if it ever had any.
async fn record(
    platform: &Platform,
    app: AppId,
) -> Result<Option<Stored<AppSecretsRecord>>, Error> {
    Ok(records::get(platform.store(), &records::secrets_key(app)).await?)
}

/// The version that follows `version`: it grows also if the clock was set back, and beyond
/// that of a store that was lost.
pub(crate) fn next_version(version: u64, now_ms: u64) -> u64 {
    now_ms.max(version + 1)
}
