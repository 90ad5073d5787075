//! The API's listener: the API itself, `/healthz` and `/metrics`.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rt::Tasks;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves until the tasks stop. The first answer is given when everything is
/// ready, so `/healthz` needs no state of its own.
pub(super) fn serve(listener: TcpListener, api: Router, registry: Registry, tasks: &Tasks) {
    let registry = Arc::new(registry);
    let router = api
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(move || metrics(registry.clone())));
    let stopping = tasks.stopping();
    tasks.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stopping).await;
        if let Err(err) = served {
            tracing::error!(error = %err, "the API's listener failed");
        }
    });
}

async fn metrics(registry: Arc<Registry>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
