//! What verifiers fetch without a token (OpenID Connect Discovery 1.0, section 4).

use crate::{Error, Kind, Platform, lookup};
use serde_json::{Value, json};

/// The configuration of the issuer of an organization.
///
/// # Errors
/// There is no such organization.
pub(crate) async fn configuration(platform: &Platform, org: &str) -> Result<Value, Error> {
    let org = lookup::org(platform, org).await?;
    let issuer = format!("{}/{}", platform.config().oidc.issuer, org.slug);
    Ok(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": [
            "iss", "aud", "sub", "iat", "nbf", "exp", "jti", "org_id", "org_name", "app_id",
            "app_name", "machine_id", "machine_name", "machine_version", "region", "image",
            "image_digest",
        ],
    }))
}

/// The public keys: the same for all organizations.
///
/// # Errors
/// There is no such organization, or there are no keys.
pub(crate) async fn jwks(platform: &Platform, org: &str) -> Result<Value, Error> {
    lookup::org(platform, org).await?;
    let keys = platform.config().oidc.keys.clone().ok_or_else(|| {
        Error::new(Kind::Unsupported, "this platform has no keys for OpenID Connect")
    })?;
    let now_ms = platform.clock().now_ms();
    let public = tokio::task::spawn_blocking(move || keys.public(now_ms)).await;
    let public = public.map_err(|err| Error::internal(format!("read the keys: {err}")))?;
    public.map_err(|err| Error::internal(format!("read the keys: {}", rt::chain(&err))))
}
