//! Tokens of a request, those of machines, and how others verify them.

use crate::http_api::openapi::operation::{Content, Operation, get, post, schema_of};
use axum::http::StatusCode;
use serde_json::Value;
use wire::logins::{BeginLogin, BegunLogin, CompletedLogin, PasswordLoggedIn, PasswordLogin};
use wire::tokens::{
    AuthenticateToken, AuthorizeToken, AuthorizedAccess, CreateOidcToken, CurrentTokens,
    VerifiedToken,
};

pub(super) fn all() -> Vec<Operation> {
    vec![
        post("/api/v1/cli_sessions", "beginLogin", "Begin a login that a page completes")
            .takes::<BeginLogin>()
            .answers_with(StatusCode::CREATED, Content::Json(schema_of::<BegunLogin>)),
        get("/api/v1/cli_sessions/{login}", "getLogin", "The token of a login, once")
            .answers::<CompletedLogin>(),
        post("/api/v1/sessions", "loginWithPassword", "Log in; the password is a token")
            .takes::<PasswordLogin>()
            .answers::<PasswordLoggedIn>(),
        get("/login/{login}", "getLoginPage", "The page on which a login is completed")
            .answers_with(StatusCode::OK, Content::Text("text/html"))
            .addition(),
        post("/login/{login}", "completeLogin", "Complete a login, by the form of its page")
            .answers_with(StatusCode::OK, Content::Text("text/html"))
            .addition(),
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
