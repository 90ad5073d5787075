//! `POST /graphql`: the transport of the GraphQL front
//! (<https://graphql.github.io/graphql-over-http/>).

use crate::graphql::{Done, GraphqlRequest, refusal};
use crate::http_api::HttpApi;
use crate::http_api::answer;
use crate::http_api::audit::{AboutOrg, Audited, Recorded};
use crate::http_api::caller::{Acting, Authenticated};
use crate::http_api::extract::read_body;
use crate::{Error, Kind};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http_body_util::{BodyExt, Limited};
use wire::machines::ErrorBody;

/// Longest answer of a refusal that is read.
const MAX_ERROR: usize = 64 * 1024;

/// Mark of an answer that is GraphQL's.
#[derive(Clone, Copy, Debug)]
struct Graphql;

/// Carries a request out. The status is that of the REST API for the first error: what is around
/// the endpoint counts and records it, and [`always_ok`] replaces it.
pub(in crate::http_api) async fn post(
    State(api): State<HttpApi>,
    Acting(platform): Acting,
    Extension(Authenticated(tokens)): Extension<Authenticated>,
    Extension(audited): Extension<Audited>,
    request: Request,
) -> Result<Response, Error> {
    check_type(request.headers())?;
    let body = read_body(&api, request.into_body()).await?;
    let prepared = api.graphql.prepare(&GraphqlRequest::parse(&body)?)?;
    let (front, changes, fields) = (api.graphql.clone(), prepared.changes(), prepared.fields());
    let run = async move { front.run(prepared, platform, tokens).await };
    if !changes {
        return Ok(response(run.await));
    }
    let (own, audited) = (api.clone(), audited.with_operations(&fields));
    // To its end, and recorded, also when the client goes away.
    let recorded = async move {
        let done = run.await;
        let about = done.org.clone().map(AboutOrg);
        audited.record(&own, status(&done).as_u16(), about).await;
        Ok(done)
    };
    let mut response = response(api.platform.run_detached(recorded).await?);
    response.extensions_mut().insert(Recorded);
    Ok(response)
}

/// A body without a type is taken for JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if ["application/json", "application/graphql-response+json"].contains(&name.as_str()) {
        return Ok(());
    }
    let why = "the content type of a GraphQL request must be application/json";
    Err(Error::new(Kind::UnsupportedMedia, why))
}

fn status(done: &Done) -> StatusCode {
    let failed = done.answer.failed;
    failed.map_or(StatusCode::OK, |kind| answer::status_of(&Error::new(kind, "")))
}

fn response(done: Done) -> Response {
    (status(&done), Extension(Graphql), Json(done.answer.body)).into_response()
}

/// Clients of GraphQL read errors in answers with the status 200 only: a refusal of what is around
/// the endpoint, such as of a token, is written in their form.
pub(in crate::http_api) async fn always_ok(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let is_graphql = route.is_some_and(|route| route.as_str() == "/graphql");
    if !is_graphql || request.method() != Method::POST {
        return next.run(request).await;
    }
    let mut response = next.run(request).await;
    if response.status() == StatusCode::OK || response.extensions().get::<Graphql>().is_some() {
        *response.status_mut() = StatusCode::OK;
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ERROR).collect().await.map(|body| body.to_bytes());
    let failure = body.ok().and_then(|body| serde_json::from_slice::<ErrorBody>(&body).ok());
    let failure = failure.unwrap_or_else(|| {
        ErrorBody::unknown(format!("the request was answered with the status {}", parts.status))
    });
    let mut answer = Json(refusal(&failure)).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    answer
}
