//! Which path is answered by which endpoint.

use super::endpoints::apps::{self, logs, secrets};
use super::endpoints::machines::{self, exec, lifecycle, metadata};
use super::endpoints::platform::{self, images};
use super::{HttpApi, auth, observe, unbuilt};
use crate::Error;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Method;
use axum::http::uri::{PathAndQuery, Uri};
use axum::middleware::{from_fn_with_state, map_request};
use axum::routing::{delete, get, post};

impl HttpApi {
    /// All routes. Every path of it needs a token, also those that do not exist.
    pub fn router(&self) -> Router {
        self.router_with(|routes| routes)
    }

    /// The same with a layer between the authentication and the endpoints.
    pub(crate) fn router_with(
        &self,
        layer: impl FnOnce(Router<HttpApi>) -> Router<HttpApi>,
    ) -> Router {
        let routes = layer(routes())
            // Bodies are limited where they are read; an import has no limit here.
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(self.clone(), auth::require))
            .layer(from_fn_with_state(self.clone(), observe::observe))
            .with_state(self.clone());
        // Around the routes, since it changes which one is found.
        Router::new().fallback_service(routes).layer(map_request(without_trailing_slash))
    }
}

fn routes() -> Router<HttpApi> {
    let machine = Router::new()
        .route("/", get(machines::get).post(machines::update).delete(machines::destroy))
        .route("/start", post(lifecycle::start))
        .route("/stop", post(lifecycle::stop))
        .route("/restart", post(lifecycle::restart))
        .route("/signal", post(lifecycle::signal))
        .route("/suspend", post(lifecycle::suspend))
        .route("/cordon", post(lifecycle::cordon))
        .route("/uncordon", post(lifecycle::uncordon))
        .route("/wait", get(lifecycle::wait))
        .route("/exec", post(exec::run))
        .route("/exec/stream", get(exec::stream))
        .route("/ps", get(machines::processes))
        .route("/events", get(machines::events))
        .route("/versions", get(machines::versions))
        .route("/metadata", get(metadata::all).put(metadata::replace).patch(metadata::merge))
        .route("/metadata/{key}", get(metadata::get).post(metadata::set).delete(metadata::unset));
    let v1 = Router::new()
        .route("/apps", get(apps::list).post(apps::create))
        .route("/apps/{app}", get(apps::get).delete(apps::destroy))
        .route("/apps/{app}/logs", get(logs::stream))
        .route("/apps/{app}/secrets", get(secrets::list).post(secrets::change))
        .route(
            "/apps/{app}/secrets/{name}",
            get(secrets::get).post(secrets::set).delete(secrets::remove),
        )
        .route("/apps/{app}/machines", get(machines::list).post(machines::create))
        .nest("/apps/{app}/machines/{machine}", machine)
        .route("/images", get(images::list).delete(images::remove))
        .route("/images/{*reference}", delete(images::remove_path))
        .route("/images/import", post(images::import))
        .route("/platform/hosts", get(platform::hosts))
        .route("/platform/regions", get(platform::regions))
        .route("/tokens/current", get(platform::token));
    let routes = Router::new().nest("/v1", v1).route("/api/v1/apps/{app}/logs", get(logs::page));
    unbuilt::add(routes).fallback(unknown)
}

/// Clients of the platform write some paths with a slash at the end.
async fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return request;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    // What is left of a valid path is one.
    parts.path_and_query = format!("{trimmed}{query}").parse::<PathAndQuery>().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

async fn unknown(method: Method, uri: Uri) -> Error {
    let path: String = uri.path().chars().take(200).collect();
    Error::not_found(format!("there is no {method} {path}"))
        .hint("docs/api/README.md lists the calls that this version answers")
}
