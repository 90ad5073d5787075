//! `/v1/orgs`: organizations, members and tokens; additions to the Machines API.

pub(in crate::http_api) mod machines;

use crate::http_api::Authenticated;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::{Error, lookup, orgs, tokens};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::{Extension, Json};
use wire::machines::Done;
use wire::orgs::{CreateOrg, Member, MemberList, Org, OrgList};
use wire::tokens::{CreateToken, CreatedToken, TokenList};

const OK: Json<Done> = Json(Done { ok: true });

pub(in crate::http_api) async fn list(Acting(platform): Acting) -> Result<Json<OrgList>, Error> {
    orgs::list(&platform).await.map(Json)
}

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<CreateOrg>,
) -> Result<(StatusCode, Json<Org>), Error> {
    Ok((StatusCode::CREATED, Json(orgs::create(&platform, ask).await?)))
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<Json<Org>, Error> {
    Ok(Json(orgs::show(&orgs::get(&platform, &org).await?)))
}

pub(in crate::http_api) async fn delete(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<Json<Done>, Error> {
    orgs::delete(&platform, &org).await.map(|()| OK)
}

pub(in crate::http_api) async fn members(
    Acting(platform): Acting,
    Path(org): Path<String>,
) -> Result<Json<MemberList>, Error> {
    orgs::members(&platform, &org).await.map(Json)
}

/// Adds a member, or changes the role of one.
pub(in crate::http_api) async fn put_member(
    Acting(platform): Acting,
    Path(org): Path<String>,
    JsonBody(member): JsonBody<Member>,
) -> Result<Json<Member>, Error> {
    orgs::put_member(&platform, &org, member).await.map(Json)
}

pub(in crate::http_api) async fn remove_member(
    Acting(platform): Acting,
    Path((org, email)): Path<(String, String)>,
) -> Result<Json<Done>, Error> {
    orgs::remove_member(&platform, &org, &email).await.map(|()| OK)
}

pub(in crate::http_api) async fn tokens(
    Acting(platform): Acting,
    Path(org): Path<String>,
    query: Params,
) -> Result<Json<TokenList>, Error> {
    let org = orgs::get(&platform, &org).await?;
    let app = match query.get("app") {
        Some(name) => Some(lookup::app(&platform, name).await?.record),
        None => None,
    };
    if let Some(app) = app.as_ref().filter(|app| app.org != org.slug) {
        return Err(Error::no_app(app.name.as_str()));
    }
    tokens::list(&platform, &org, app.as_ref()).await.map(Json)
}

/// The tokens of the request limit the new one; what they must permit depends on the body.
pub(in crate::http_api) async fn create_token(
    Acting(platform): Acting,
    Extension(Authenticated(creator)): Extension<Authenticated>,
    Path(org): Path<String>,
    JsonBody(ask): JsonBody<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Error> {
    let org = orgs::visible(&platform, &org).await?;
    let made = tokens::issue(&platform, &creator, &org, ask).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// A member may revoke its own; all others need the permission to delete tokens.
pub(in crate::http_api) async fn revoke_token(
    Acting(platform): Acting,
    Extension(Authenticated(caller)): Extension<Authenticated>,
    Path((org, token)): Path<(String, String)>,
) -> Result<Json<Done>, Error> {
    let org = orgs::visible(&platform, &org).await?;
    tokens::revoke(&platform, &caller, &org, None, &token).await.map(|()| OK)
}
