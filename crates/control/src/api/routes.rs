//! Which path is answered by which handler.

use super::guest_api::{self, Limits};
use super::{Api, ApiError};
use super::{apps, auth, exec, images, life, logs, machines, metadata, observe, platform, wait};
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, delete, get, post};
use axum::{Router, extract::DefaultBodyLimit};

impl Api {
    /// All routes. Every path of it wants a token, also those that do not exist.
    pub fn router(&self) -> Router {
        self.guarded(routes())
    }

    /// The same routes for connections out of machines, bounded by `limits`.
    pub(super) fn guest_router(&self, limits: Limits) -> Router {
        self.guarded(routes().layer(from_fn_with_state(limits, guest_api::bound)))
    }

    /// Nothing passes without leave, and everything is counted.
    fn guarded(&self, routes: Router<Self>) -> Router {
        routes
            // Bodies are limited where they are read; an import has no limit here.
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(self.clone(), auth::require))
            .layer(from_fn_with_state(self.clone(), observe::observe))
            .with_state(self.clone())
    }
}

fn routes() -> Router<Api> {
    let machine = Router::new()
        .route("/", get(machines::get).post(machines::update).delete(machines::destroy))
        .route("/start", post(life::start))
        .route("/stop", post(life::stop))
        .route("/restart", post(life::restart))
        .route("/signal", post(life::signal))
        .route("/suspend", post(life::suspend))
        .route("/cordon", post(life::cordon))
        .route("/uncordon", post(life::uncordon))
        .route("/wait", get(wait::wait))
        .route("/exec", post(exec::run))
        .route("/exec/stream", get(exec::stream))
        .route("/ps", get(machines::processes))
        .route("/events", get(machines::events))
        .route("/versions", get(machines::versions))
        .route("/metadata", get(metadata::all).put(metadata::replace).patch(metadata::merge))
        .route("/metadata/{key}", get(metadata::get).post(metadata::set).delete(metadata::unset))
        .route("/lease", any(async || ApiError::unsupported("a lease")))
        .route("/memory", any(async || ApiError::unsupported("memory ballooning")))
        .route("/memory/reclaim", any(async || ApiError::unsupported("memory ballooning")));
    let v1 = Router::new()
        .route("/apps", get(apps::list).post(apps::create))
        .route("/apps/{app}", get(apps::get).delete(apps::destroy))
        .route("/apps/{app}/logs", get(logs::stream))
        .route("/apps/{app}/machines", get(machines::list).post(machines::create))
        .nest("/apps/{app}/machines/{machine}", machine)
        .route("/images", get(images::list).delete(images::remove))
        .route("/images/{*reference}", delete(images::remove_path))
        .route("/images/import", post(images::import))
        .route("/platform/hosts", get(platform::hosts))
        .route("/platform/regions", get(platform::regions))
        .route("/tokens/current", get(platform::token));
    Router::new()
        .nest("/v1", v1)
        .route("/api/v1/apps/{app}/logs", get(logs::page))
        .fallback(unknown)
}

async fn unknown(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::not_found(format!("there is no {method} {path}"))
}
