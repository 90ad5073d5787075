//! `/v1/tokens`. See <https://fly.io/docs/machines/api/tokens-resource/>.

use crate::http_api::Authenticated;
use crate::http_api::caller::Acting;
use crate::{Error, tokens};
use axum::{Extension, Json};
use wire::tokens::CurrentTokens;

/// The tokens of the request.
pub(in crate::http_api) async fn current(
    Acting(platform): Acting,
    Extension(Authenticated(found)): Extension<Authenticated>,
) -> Result<Json<CurrentTokens>, Error> {
    tokens::current(&platform, &found).await.map(Json)
}
