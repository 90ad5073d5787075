//! `/v1/apps/{app}/secretkeys`. Fields and paths: `docs/fly-reference.md#secrets`.

use crate::Error;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::secret_keys;
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use wire::secret_keys::{
    Decrypt, Decrypted, Encrypt, Encrypted, KeyTypes, NewSecretKey, SecretKey, SecretKeyChanged,
    SecretKeys, Sign, Signed, Verify,
};

type At = Path<(String, String)>;
type Created = Result<(StatusCode, Json<SecretKeyChanged>), Error>;

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<Json<SecretKeys>, Error> {
    secret_keys::list(&platform, &app, &query.list("types")).await.map(Json)
}

pub(in crate::http_api) async fn types(
    Acting(platform): Acting,
    Path(app): Path<String>,
) -> Result<Json<KeyTypes>, Error> {
    secret_keys::types(&platform, &app).await.map(Json)
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, name)): At,
) -> Result<Json<SecretKey>, Error> {
    secret_keys::get(&platform, &app, &name).await.map(Json)
}

pub(in crate::http_api) async fn set(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(new): JsonBody<NewSecretKey>,
) -> Created {
    let value = new.value.ok_or_else(|| Error::invalid("value", "is required"))?;
    let made = secret_keys::set(&platform, &app, &name, (&new.kind, Some(value))).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Clients send a `value` of null with it.
pub(in crate::http_api) async fn generate(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(new): JsonBody<NewSecretKey>,
) -> Created {
    if new.value.is_some_and(|value| !value.as_slice().is_empty()) {
        return Err(Error::invalid("value", "must be left out: the platform generates the key"));
    }
    let made = secret_keys::set(&platform, &app, &name, (&new.kind, None)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

pub(in crate::http_api) async fn remove(
    Acting(platform): Acting,
    Path((app, name)): At,
) -> Result<Json<SecretKeyChanged>, Error> {
    secret_keys::remove(&platform, &app, &name).await.map(Json)
}

pub(in crate::http_api) async fn encrypt(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(ask): JsonBody<Encrypt>,
) -> Result<Json<Encrypted>, Error> {
    secret_keys::encrypt(&platform, &app, &name, ask).await.map(Json)
}

pub(in crate::http_api) async fn decrypt(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(ask): JsonBody<Decrypt>,
) -> Result<Json<Decrypted>, Error> {
    secret_keys::decrypt(&platform, &app, &name, ask).await.map(Json)
}

pub(in crate::http_api) async fn sign(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(ask): JsonBody<Sign>,
) -> Result<Json<Signed>, Error> {
    secret_keys::sign(&platform, &app, &name, ask).await.map(Json)
}

pub(in crate::http_api) async fn verify(
    Acting(platform): Acting,
    Path((app, name)): At,
    JsonBody(ask): JsonBody<Verify>,
) -> Result<StatusCode, Error> {
    secret_keys::verify(&platform, &app, &name, ask).await.map(|()| StatusCode::NO_CONTENT)
}
