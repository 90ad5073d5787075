//! The token of a machine, with the claims of the platform
//! (<https://fly.io/docs/security/openid-connect/#openid-token-structure>).

use super::keys::KeyError;
use crate::lookup::Machine;
use crate::{Error, Kind, Platform, lookup};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::Duration;
use wire::tokens::CreateOidcToken;

/// Seconds for which a token is valid.
const LIFE_SECS: u64 = 600;
/// Longest audience.
const MAX_AUDIENCE: usize = 1024;
const READ: Duration = Duration::from_secs(10);
/// Tags of a session that AWS takes from the token
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>).
const AWS_TAGS: &str = "https://aws.amazon.com/tags";

/// A token of a machine: a JWT (RFC 7519), signed with RS256.
///
/// # Errors
/// There is no such machine; the request is not valid; there are no keys.
pub(crate) async fn issue(
    platform: &Platform,
    machine: &Machine,
    ask: CreateOidcToken,
) -> Result<String, Error> {
    let config = &platform.config().oidc;
    let keys = config.keys.clone().ok_or_else(|| {
        Error::new(Kind::Unsupported, "this platform has no keys for OpenID Connect")
    })?;
    let claims = claims(platform, machine, &ask).await?;
    let now_ms = platform.clock().now_ms();
    let sign = move || {
        let (text, signature) = keys.sign(now_ms, |id| unsigned(id, &claims))?;
        Ok::<_, KeyError>(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    };
    // Making a key takes a while.
    let signed = tokio::task::spawn_blocking(sign).await;
    let signed = signed.map_err(|err| Error::internal(format!("sign a token: {err}")))?;
    signed.map_err(|err| Error::internal(format!("sign a token: {}", rt::chain(&err))))
}

fn unsigned(key: &str, claims: &Value) -> String {
    let header = json!({ "alg": "RS256", "kid": key, "typ": "JWT" });
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(&header), part(claims))
}

async fn claims(
    platform: &Platform,
    machine: &Machine,
    ask: &CreateOidcToken,
) -> Result<Value, Error> {
    let app = lookup::app_by_id(platform, machine.record.app).await?;
    let app = app.ok_or_else(|| Error::not_found("the app of the machine is gone"))?;
    let org = lookup::org(platform, &app.org).await?;
    let id = machine.id;
    let shown = machine
        .call(platform, READ, |host, context, id| async move { host.machine(context, id).await })
        .await?;
    let config = &platform.config().oidc;
    let issuer = format!("{}/{}", config.issuer, org.slug);
    let audience = ask.aud.clone().filter(|aud| !aud.is_empty());
    if audience.as_ref().is_some_and(|aud| aud.len() > MAX_AUDIENCE) {
        return Err(Error::invalid("aud", format!("at most {MAX_AUDIENCE} bytes")));
    }
    let default = if config.audience.is_empty() { &config.issuer } else { &config.audience };
    let audience = audience.unwrap_or_else(|| format!("{default}/{}", org.slug));
    let now = platform.clock().now_ms() / 1000;
    let mut claims = json!({
        "iss": issuer,
        "aud": audience,
        "sub": format!("{}:{}:{}", org.slug, app.name, machine.record.name),
        "iat": now,
        "nbf": now,
        "exp": now + LIFE_SECS,
        "jti": jti(platform.rng().wide_bits()),
        "org_id": org.id.0.to_string(),
        "org_name": org.slug,
        "app_id": app.id.0.to_string(),
        "app_name": app.name,
        "machine_id": id.to_string(),
        "machine_name": machine.record.name,
        "machine_version": shown.instance_id,
        "region": shown.region,
        "image": shown.config.as_ref().map(|config| config.image.clone()),
        "image_digest": shown.image_ref.digest,
    });
    if let Some(tags) = tags(ask, &claims)? {
        claims[AWS_TAGS] = tags;
    }
    Ok(claims)
}

/// The claims that AWS is to take as tags of the session.
fn tags(ask: &CreateOidcToken, claims: &Value) -> Result<Option<Value>, Error> {
    const KNOWN: [&str; 7] = [
        "org_name",
        "app_name",
        "machine_id",
        "machine_name",
        "machine_version",
        "region",
        "image",
    ];
    if ask.aws_principal_tags.is_empty() {
        return Ok(None);
    }
    let mut tags = serde_json::Map::new();
    for name in &ask.aws_principal_tags {
        if !KNOWN.contains(&name.as_str()) {
            let rule = format!("must be some of {}", KNOWN.join(", "));
            return Err(Error::invalid("aws_principal_tags", rule));
        }
        tags.insert(name.clone(), json!([claims[name]]));
    }
    Ok(Some(json!({ "principal_tags": tags })))
}

/// A random UUID (RFC 9562, version 4).
fn jti(random: u128) -> String {
    let bits = (random & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        assert_eq!(jti(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(jti(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
