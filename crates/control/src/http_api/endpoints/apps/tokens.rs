//! Tokens of an app. See <https://fly.io/docs/machines/api/apps-resource/>.

use crate::http_api::Authenticated;
use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, lookup, tokens};
use axum::extract::Path;
use axum::{Extension, Json};
use wire::machines::Done;
use wire::tokens::{CreateDeployToken, CreateToken, DeployToken, TokenList};

/// `POST /v1/apps/{app}/deploy_token`.
pub(in crate::http_api) async fn deploy_token(
    Acting(platform): Acting,
    Extension(Authenticated(creator)): Extension<Authenticated>,
    Path(app): Path<String>,
    JsonBody(ask): JsonBody<CreateDeployToken>,
) -> Result<Json<DeployToken>, Error> {
    let record = lookup::app(&platform, &app).await?.record;
    let org = lookup::org(&platform, &record.org).await?;
    let ask = CreateToken {
        kind: "deploy".into(),
        name: "deploy token".into(),
        expiry: ask.expiry,
        app: Some(app),
        ..CreateToken::default()
    };
    let made = tokens::issue(&platform, &creator, &org, ask).await?;
    Ok(Json(DeployToken { token: made.token }))
}

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
) -> Result<Json<TokenList>, Error> {
    let app = lookup::app(&platform, &app).await?.record;
    let org = lookup::org(&platform, &app.org).await?;
    tokens::list(&platform, &org, Some(&app)).await.map(Json)
}

pub(in crate::http_api) async fn revoke(
    Acting(platform): Acting,
    Extension(Authenticated(caller)): Extension<Authenticated>,
    Path((app, token)): Path<(String, String)>,
) -> Result<Json<Done>, Error> {
    let app = lookup::app(&platform, &app).await?.record;
    let org = lookup::org(&platform, &app.org).await?;
    tokens::revoke(&platform, &caller, &org, Some(&app), &token).await?;
    Ok(Json(Done { ok: true }))
}
