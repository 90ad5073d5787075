//! The description of the API, for programs and for people.

use crate::http_api::openapi;
use axum::http::{HeaderName, header};
use axum::response::Html;

/// `GET /openapi.json`
pub(in crate::http_api) async fn document() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], openapi::json())
}

/// `GET /docs`
pub(in crate::http_api) async fn page() -> Html<&'static str> {
    Html(openapi::html())
}
