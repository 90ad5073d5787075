//! `/v1/apps/{app}/secrets`. Fields and paths: `docs/fly-reference.md#secrets`.

use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::secrets::{self, Query};
use crate::{Error, secret_keys};
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use wire::secret::Secret;
use wire::secret_keys::SecretKeyChanged;
use wire::secrets::{
    AppSecret, AppSecrets, ChangeSecrets, SecretChanged, SecretScope, SetSecret, TypedSecret,
    TypedSecretSet,
};

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

/// The form of the API before secrets and secret keys were apart: a label, a type, and the
/// value as bytes.
pub(in crate::http_api) async fn set_typed(
    Acting(platform): Acting,
    Path((app, name, kind)): Path<(String, String, String)>,
    JsonBody(body): JsonBody<TypedSecret>,
) -> Result<(StatusCode, Json<TypedSecretSet>), Error> {
    let value = body.value.ok_or_else(|| Error::invalid("value", "is required"))?;
    let changed = match typed(&kind)? {
        Typed::Secret => {
            let text = String::from_utf8(value.as_slice().to_vec());
            let text = text.map_err(|_| Error::invalid("value", "must be UTF-8"))?;
            let set = SetSecret { value: Some(Secret::new(text)), scope: None };
            secrets::set(&platform, &app, &name, set).await?;
            None
        }
        Typed::Key(kind) => {
            Some(secret_keys::set(&platform, &app, &name, (kind, Some(value))).await?)
        }
    };
    Ok((StatusCode::CREATED, Json(in_earlier_form(name, kind, changed))))
}

/// Generates a key; a secret of 32 random bytes in hex.
pub(in crate::http_api) async fn generate_typed(
    Acting(platform): Acting,
    Path((app, name, kind)): Path<(String, String, String)>,
) -> Result<(StatusCode, Json<TypedSecretSet>), Error> {
    let changed = match typed(&kind)? {
        Typed::Secret => secrets::generate(&platform, &app, &name).await.map(|_| None)?,
        Typed::Key(kind) => Some(secret_keys::set(&platform, &app, &name, (kind, None)).await?),
    };
    Ok((StatusCode::CREATED, Json(in_earlier_form(name, kind, changed))))
}

/// Clients of the earlier form read the label, the type, and the public key as numbers.
fn in_earlier_form(
    label: String,
    kind: String,
    changed: Option<SecretKeyChanged>,
) -> TypedSecretSet {
    let public = changed.and_then(|changed| changed.key?.public_key);
    let publickey = public.map(|key| key.as_slice().to_vec()).unwrap_or_default();
    TypedSecretSet { label, kind, publickey }
}

/// What a type of the earlier form is.
enum Typed {
    Secret,
    Key(&'static str),
}

/// The types as fly-go had them.
const TYPES: &[(&str, &str)] = &[
    ("SECRET_TYPE_KMS_HS256", "hs256"),
    ("SECRET_TYPE_KMS_HS384", "hs384"),
    ("SECRET_TYPE_KMS_HS512", "hs512"),
    ("SECRET_TYPE_KMS_XAES256GCM", "xaes256gcm"),
    ("SECRET_TYPE_KMS_NACL_AUTH", "nacl_auth"),
    ("SECRET_TYPE_KMS_NACL_BOX", "nacl_box"),
    ("SECRET_TYPE_KMS_NACL_SECRETBOX", "nacl_secretbox"),
    ("SECRET_TYPE_KMS_NACL_SIGN", "nacl_sign"),
];

fn typed(kind: &str) -> Result<Typed, Error> {
    if ["AppSecret", "app", "opaque", "raw"].contains(&kind) {
        return Ok(Typed::Secret);
    }
    if kind == "VolumeEncryptionKey" {
        return Err(Error::unsupported("type", "volumes and their keys are not supported yet"));
    }
    let known = TYPES.iter().find(|(old, new)| *old == kind || *new == kind);
    let known = known.map(|(_, new)| Typed::Key(new));
    known.ok_or_else(|| {
        let all: Vec<&str> = TYPES.iter().map(|(old, _)| *old).collect();
        Error::invalid("type", format!("must be AppSecret or one of {}", all.join(", ")))
    })
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
