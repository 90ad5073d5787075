//! Tokens of a request, those of machines, and how others verify them.

use crate::http_api::openapi::operation::{Content, Operation, get, post};
use axum::http::StatusCode;
use serde_json::Value;
use wire::tokens::{
    AuthenticateToken, AuthorizeToken, AuthorizedAccess, CreateOidcToken, CurrentTokens,
    VerifiedToken,
};

pub(super) fn all() -> Vec<Operation> {
    vec![
        get("/v1/tokens/current", "currentTokens", "The tokens of the request")
            .answers::<CurrentTokens>(),
        post("/v1/tokens/authenticate", "authenticateToken", "The valid tokens of a header")
            .takes::<AuthenticateToken>()
            .answers::<Vec<VerifiedToken>>(),
        post("/v1/tokens/authorize", "authorizeToken", "Whether a header permits an access")
            .takes::<AuthorizeToken>()
            .answers::<AuthorizedAccess>(),
        post("/v1/tokens/oidc", "createOidcToken", "An OpenID Connect token of a machine")
            .takes::<CreateOidcToken>()
            .answers_with(StatusCode::OK, Content::Text("text/plain")),
        get(
            "/{org}/.well-known/openid-configuration",
            "oidcConfiguration",
            "OpenID Connect discovery",
        )
        .answers::<Value>(),
        get("/{org}/.well-known/jwks", "oidcKeys", "Keys that verify tokens of machines")
            .answers::<Value>(),
    ]
}
