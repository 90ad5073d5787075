//! Gives every request an id, counts and times it, and makes its errors JSON.

use super::{HttpApi, answer};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use model::id::EventId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// Text of a library's own error answer that is kept.
const MAX_TEXT: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// Metrics of the API.
pub(super) struct Metrics {
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let buckets = || Histogram::new(exponential_buckets(0.001, 4.0, 9));
        let metrics =
            Self { requests: Family::default(), seconds: Family::new_with_constructor(buckets) };
        let requests = metrics.requests.clone();
        registry.register("updraft_api_requests", "Requests answered by the API", requests);
        let (name, help) = ("updraft_api_request_seconds", "Time until the head of the answer");
        registry.register(name, help, metrics.seconds.clone());
        metrics
    }
}

/// Names the request, and counts and completes its answer.
pub(super) async fn observe(State(api): State<HttpApi>, request: Request, next: Next) -> Response {
    let (platform, begun) = (&api.platform, Instant::now());
    let id = EventId::new(platform.clock().now_ms(), platform.rng().wide_bits()).to_string();
    let route = route(&request);
    let mut response = as_json(next.run(request).await).await;
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    tracing::debug!(request = id, route, status, ms = took.as_millis() as u64, "api request");
    api.metrics.seconds.get_or_create(&Route { route: route.clone() }).observe(took.as_secs_f64());
    api.metrics.requests.get_or_create(&Answered { route, status }).inc();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("fly-request-id", value);
    }
    response
}

/// The label of a request. Labels stay in memory for good, and methods and
/// paths are any client's to make up, so only known ones become labels.
fn route(request: &Request) -> String {
    let Some(matched) = request.extensions().get::<MatchedPath>() else {
        return "unmatched".into();
    };
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "OTHER",
    };
    format!("{method} {}", matched.as_str())
}

/// Errors that a library answered in plain text get the shape of ours.
async fn as_json(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !is_error || kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = Limited::new(body, MAX_TEXT).collect().await;
    let text = text.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    let text = text.ok().filter(|text| !text.trim().is_empty());
    let reason = || parts.status.canonical_reason().unwrap_or("failed").to_lowercase();
    let answer = answer::of_library(status, text.unwrap_or_else(reason));
    let (mut answer, body) = answer.into_parts();
    // Such as `allow` of a 405.
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            answer.headers.insert(name.clone(), value.clone());
        }
    }
    Response::from_parts(answer, Body::new(body))
}
