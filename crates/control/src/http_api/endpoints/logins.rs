//! Logins of clients, and the page on which their users complete them.

use crate::http_api::HttpApi;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, read_body};
use crate::http_api::html::escaped;
use crate::{Error, Kind, logins};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use wire::logins::{
    BeginLogin, BegunLogin, CompletedLogin, GivenToken, LoginData, PasswordLoggedIn, PasswordLogin,
};
use wire::secret::Secret;

/// The page loads nothing, runs nothing, and is part of no other page.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; \
         base-uri 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}\
    input{width:100%;box-sizing:border-box;font:inherit;padding:.4rem}button{font:inherit;padding:.4rem 1rem;margin-top:1rem}\
    .error{color:#b00}code{font-family:ui-monospace,monospace}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}.error{color:#f88}}";

/// `POST /api/v1/cli_sessions`
pub(in crate::http_api) async fn begin(
    Acting(platform): Acting,
    headers: HeaderMap,
    JsonBody(ask): JsonBody<BeginLogin>,
) -> Result<(StatusCode, Json<BegunLogin>), Error> {
    let base = address(&headers)?;
    let id = logins::begin(&platform, &ask.name);
    let auth_url = format!("{base}/login/{id}");
    Ok((StatusCode::CREATED, Json(BegunLogin { id, auth_url })))
}

/// `GET /api/v1/cli_sessions/{login}`
pub(in crate::http_api) async fn take(
    Acting(platform): Acting,
    Path(id): Path<String>,
) -> Result<Json<CompletedLogin>, Error> {
    let access_token = logins::take(&platform, &id)?;
    Ok(Json(CompletedLogin { id, access_token }))
}

/// `POST /api/v1/sessions`
pub(in crate::http_api) async fn with_password(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<PasswordLogin>,
) -> Result<Json<PasswordLoggedIn>, Error> {
    let token = ask.data.attributes.password;
    let access_token = logins::valid(&platform, token.expose()).await.map_err(|err| {
        err.hint("the password is a token of the platform: `updraft tokens create` makes one")
    })?;
    let attributes = GivenToken { access_token };
    Ok(Json(PasswordLoggedIn { data: LoginData { attributes } }))
}

/// `GET /login/{login}`
pub(in crate::http_api) async fn page(
    Acting(platform): Acting,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let client = logins::client(&platform, &id)?;
    Ok(shown(&form(&client, "")))
}

#[derive(Deserialize)]
struct Form {
    token: Secret,
}

/// `POST /login/{login}`, from the form of the page.
pub(in crate::http_api) async fn complete(
    State(api): State<HttpApi>,
    Acting(platform): Acting,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Error> {
    let client = logins::client(&platform, &id)?;
    let body = read_body(&api, body).await?;
    let form_data: Form = serde_urlencoded::from_bytes(&body)
        .map_err(|_| Error::invalid("token", "is missing from the form"))?;
    match logins::complete(&platform, &id, form_data.token.expose()).await {
        Ok(()) => Ok(shown("<p>The client is logged in. This page can be closed.</p>")),
        // With another token it may succeed: the form is shown again.
        Err(err) if matches!(err.kind, Kind::Unauthorized | Kind::Invalid) => {
            Ok(shown(&form(&client, &err.message)))
        }
        Err(err) => Err(err),
    }
}

fn form(client: &str, error: &str) -> String {
    let client = match client {
        "" => "A client".to_owned(),
        name => format!("A client on <b>{}</b>", escaped(name)),
    };
    let error = match error {
        "" => String::new(),
        text => format!("<p class=error>{}</p>", escaped(text)),
    };
    format!(
        "<p>{client} asks to log in. It will be able to do what the token permits: continue only if you \
         have just begun this yourself, with <code>fly auth login</code>.</p>{error}\
         <form method=post><label>Token of the platform<br><input type=password name=token required \
         autocomplete=off autofocus></label><br><button>Log in</button></form>\
         <p>On the host of the daemon <code>updraft tokens create</code> makes one.</p>"
    )
}

fn shown(contents: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Log in</title>\
         <meta name=viewport content='width=device-width'><style>{STYLE}</style>\
         <h1>Log in to Updraft</h1>{contents}</html>"
    );
    (HEADERS, Html(page)).into_response()
}

/// Where the client has found the API: the page is there, too.
fn address(headers: &HeaderMap) -> Result<String, Error> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| Error::invalid("Host", "the header is missing"))?;
    let forwarded = text(HeaderName::from_static("x-forwarded-proto"));
    let scheme = if forwarded == Some("https") { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}
