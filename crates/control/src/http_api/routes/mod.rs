//! Which path is answered by which endpoint, and what a caller needs for it. A route is one
//! line; [`Routes`] keeps the table of needs that `auth` looks into before an endpoint is
//! called.

mod unbuilt;

use super::endpoints::apps::{self, logs};
use super::endpoints::machines::{self, busy, exec, leases, lifecycle, metadata};
use super::endpoints::platform::{self, images};
use super::endpoints::{tokens, watch};
use super::table::{Route, Routes};
use super::{HttpApi, auth, observe};
use crate::Error;
use crate::access::Subject::{App, Machine, Org, Platform, Several, Token};
use crate::access::{control, create, delete, read, write};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Method;
use axum::http::uri::{PathAndQuery, Uri};
use axum::middleware::{from_fn_with_state, map_request};
use macaroon::Action;
use std::sync::Arc;

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
        let (routes, needs) = routes().build();
        let routes = layer(routes.fallback(unknown))
            // Bodies are limited where they are read; an import has no limit here.
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state((self.clone(), Arc::new(needs)), auth::require))
            .layer(from_fn_with_state(self.clone(), observe::observe))
            .with_state(self.clone());
        // Around the routes, since it changes which one is found.
        Router::new().fallback_service(routes).layer(map_request(without_trailing_slash))
    }

    /// Every route, with what a caller needs for it.
    pub fn routes() -> Vec<Route> {
        routes().build().1.routes().to_vec()
    }
}

fn routes() -> Routes {
    let machine = Routes::below("/v1/apps/{app}/machines/{machine}")
        .get("", read(Machine).or_itself(), machines::get)
        .post("", write(Machine), machines::update)
        .delete("", delete(Machine), machines::destroy)
        .post("/start", control(Machine), lifecycle::start)
        .post("/stop", control(Machine), lifecycle::stop)
        .post("/restart", control(Machine), lifecycle::restart)
        .post("/signal", control(Machine), lifecycle::signal)
        .post("/suspend", control(Machine).or_itself(), lifecycle::suspend)
        .post("/cordon", control(Machine), lifecycle::cordon)
        .post("/uncordon", control(Machine), lifecycle::uncordon)
        .get("/wait", read(Machine), lifecycle::wait)
        // A command in a guest can do what the machine can.
        .post("/exec", write(Machine).and(Action::CONTROL).to_run_command(), exec::run)
        .get("/exec/stream", write(Machine).and(Action::CONTROL).to_run_command(), exec::stream)
        .get("/lease", read(Machine), leases::get)
        .post("/lease", write(Machine), leases::acquire)
        .delete("/lease", write(Machine), leases::release)
        .get("/busy", read(Machine).or_itself(), busy::get)
        .post("/busy", control(Machine).or_itself(), busy::hold)
        .delete("/busy", control(Machine).or_itself(), busy::end)
        .get("/ps", read(Machine), machines::processes)
        .get("/events", read(Machine), machines::events)
        .get("/events/stream", read(Machine), watch::machine)
        .get("/versions", read(Machine), machines::versions)
        .get("/checks", read(Machine), machines::checks)
        .get("/metadata", read(Machine).of("metadata").or_itself(), metadata::all)
        .put("/metadata", write(Machine).of("metadata").or_itself(), metadata::replace)
        .patch("/metadata", write(Machine).of("metadata").or_itself(), metadata::merge)
        .get("/metadata/{key}", read(Machine).of("metadata").or_itself(), metadata::get)
        .post("/metadata/{key}", write(Machine).of("metadata").or_itself(), metadata::set)
        .delete("/metadata/{key}", write(Machine).of("metadata").or_itself(), metadata::unset);
    let app = Routes::below("/v1/apps/{app}")
        .get("", read(App), apps::get)
        .delete("", delete(App), apps::destroy)
        .get("/logs", read(App).of("logs"), logs::stream)
        .get("/watch", read(App), watch::app)
        .get("/machines", read(App), machines::list)
        .post("/machines", create(App), machines::create);
    let v1 = Routes::below("/v1")
        .get("/apps", read(Several), apps::list)
        .post("/apps", create(Several), apps::create)
        .get("/orgs/{org}/watch", read(Org), watch::org)
        .get("/images", read(Platform), images::list)
        .delete("/images", delete(Platform), images::remove)
        .delete("/images/{*reference}", delete(Platform), images::remove_path)
        .post("/images/import", create(Platform), images::import)
        .get("/platform/hosts", read(Platform), platform::hosts)
        .get("/platform/regions", read(Token), platform::regions)
        .get("/tokens/current", read(Token), tokens::current);
    Routes::below("")
        .get("/api/v1/apps/{app}/logs", read(App).of("logs"), logs::page)
        .and(v1)
        .and(app)
        .and(machine)
        .and(unbuilt::routes())
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
