//! `/v1/tokens`. See <https://fly.io/docs/machines/api/tokens-resource/>.

use crate::http_api::Authenticated;
use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, tokens};
use axum::{Extension, Json};
use wire::tokens::{
    AuthenticateToken, AuthorizeToken, AuthorizedAccess, CurrentTokens, VerifiedToken,
};

/// The tokens of the request.
pub(in crate::http_api) async fn current(
    Acting(platform): Acting,
    Extension(Authenticated(found)): Extension<Authenticated>,
) -> Result<Json<CurrentTokens>, Error> {
    tokens::current(&platform, &found).await.map(Json)
}

/// `POST /v1/tokens/authenticate`: the valid tokens of a header. The header in the body is the
/// only one: clients of the platform send no other.
pub(in crate::http_api) async fn authenticate(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<AuthenticateToken>,
) -> Result<Json<Vec<VerifiedToken>>, Error> {
    tokens::verify(&platform, &ask.header).await.map(Json)
}

/// `POST /v1/tokens/authorize`: whether a header permits an access.
pub(in crate::http_api) async fn authorize(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<AuthorizeToken>,
) -> Result<Json<AuthorizedAccess>, Error> {
    tokens::verify_access(&platform, &ask.header, &ask.access).await.map(Json)
}
