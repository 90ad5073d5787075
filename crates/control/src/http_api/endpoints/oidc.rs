//! OpenID Connect. See <https://fly.io/docs/security/openid-connect/>.

use crate::access::{app_access, permit};
use crate::http_api::audit::AboutOrg;
use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, Rights, lookup, oidc};
use axum::extract::Path;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use macaroon::{Access, Action};
use serde_json::Value;
use wire::tokens::CreateOidcToken;

/// Seconds for which verifiers may keep the keys.
const CACHE: &str = "public, max-age=3600";

/// `POST /v1/tokens/oidc`: of the machine that the call comes out of, or of the one that the
/// body names.
pub(in crate::http_api) async fn token(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<CreateOidcToken>,
) -> Result<Response, Error> {
    let of_itself = match platform.rights() {
        Rights::Machine(machine) => Some(*machine),
        _ => None,
    };
    let machine = match of_itself {
        Some(_) if ask.app_name.is_some() || ask.machine_id.is_some() => {
            let why = "cannot be given without a token: the machine is the one that asks";
            return Err(Error::invalid("machine_id", why));
        }
        Some(id) => lookup::by_id(&platform, id).await?,
        None => {
            let app = ask.app_name.as_deref();
            let app = app.ok_or_else(|| Error::invalid("app_name", "is required with a token"))?;
            let named = ask.machine_id.as_deref();
            let named =
                named.ok_or_else(|| Error::invalid("machine_id", "is required with a token"))?;
            let record = lookup::app(&platform, app).await?.record;
            let access = app_access(&platform, &record, Action::WRITE).await?;
            if platform.rights().is_hidden(&access) {
                return Err(Error::no_app(app));
            }
            let machine = lookup::machine(&platform, app, named).await?;
            let (id, feature) = (machine.id.to_string(), Some("oidc".to_owned()));
            let subject = format!("the identity of machine {id:?} of app {app:?}");
            let access = Access { machine: Some(id), machine_feature: feature, ..access };
            permit(&platform, &access, &subject)?;
            Some(machine)
        }
    };
    let machine = machine.ok_or_else(|| Error::not_found("the machine is gone"))?;
    let token = oidc::issue(&platform, &machine, ask).await?;
    let app = lookup::app_by_id(&platform, machine.record.app).await?;
    let about = Extension(AboutOrg(app.map(|app| app.org).unwrap_or_default()));
    Ok((about, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], token).into_response())
}

/// `GET /{org}/.well-known/openid-configuration`.
pub(in crate::http_api) async fn configuration(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<([(HeaderName, &'static str); 1], Json<Value>), Error> {
    let body = oidc::configuration(&platform, &org).await?;
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(body)))
}

/// `GET /{org}/.well-known/jwks`.
pub(in crate::http_api) async fn jwks(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<([(HeaderName, &'static str); 1], Json<Value>), Error> {
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(oidc::jwks(&platform, &org).await?)))
}
