//! Which path is answered by which endpoint, and what a caller needs for it. A route is one
//! line; [`Routes`] keeps the table of needs that `auth` looks into before an endpoint is
//! called.

mod unbuilt;

use super::endpoints::apps::{self, logs, secret_keys, secrets, tokens as app_tokens, volumes};
use super::endpoints::machines::{
    self, batch, busy, exec, leases, lifecycle, memory, metadata, patch, runs,
};
use super::endpoints::platform::{self, images};
use super::endpoints::uiex::{self, builds, releases};
use super::endpoints::{audit, description, graphql, logins, oidc, orgs, tokens, watch};
use super::table::{Route, Routes};
use super::{HttpApi, auth, idempotency, observe, rate_limit, warnings};
use crate::Error;
use crate::access::Subject::{App, Machine, Open, Org, Platform, Several, Token, Volume};
use crate::access::{control, create, delete, read, write};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Method;
use axum::http::uri::{PathAndQuery, Uri};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
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
        // Innermost: the bounds of a front hold for bodies that are read here, too.
        let once = from_fn_with_state(self.clone(), idempotency::once);
        let routes = layer(routes.fallback(unknown).layer(once))
            // Bodies are limited where they are read; an import has no limit here.
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn(warnings::collect))
            .layer(from_fn_with_state(self.clone(), rate_limit::limit))
            .layer(from_fn_with_state((self.clone(), Arc::new(needs)), auth::require))
            .layer(from_fn_with_state(self.clone(), observe::observe))
            .layer(from_fn(graphql::always_ok))
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
        .patch("", write(Machine), patch::patch)
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
        .get("/memory", read(Machine), memory::get)
        .put("/memory", control(Machine), memory::limit)
        .post("/memory/reclaim", control(Machine), memory::reclaim)
        .get("/busy", read(Machine).or_itself(), busy::get)
        .post("/busy", control(Machine).or_itself(), busy::hold)
        .delete("/busy", control(Machine).or_itself(), busy::end)
        .get("/ps", read(Machine), machines::processes)
        .get("/events", read(Machine), machines::events)
        .get("/events/stream", read(Machine), watch::machine)
        .get("/versions", read(Machine), machines::versions)
        .get("/checks", read(Machine), machines::checks)
        .get("/runs", read(Machine), runs::list)
        .post("/runs", control(Machine), runs::begin)
        .get("/metadata", read(Machine).of("metadata").or_itself(), metadata::all)
        .put("/metadata", write(Machine).of("metadata").or_itself(), metadata::replace)
        .patch("/metadata", write(Machine).of("metadata").or_itself(), metadata::merge)
        .get("/metadata/{key}", read(Machine).of("metadata").or_itself(), metadata::get)
        .post("/metadata/{key}", write(Machine).of("metadata").or_itself(), metadata::set)
        .delete("/metadata/{key}", write(Machine).of("metadata").or_itself(), metadata::unset);
    let secrets = Routes::below("/v1/apps/{app}/secrets")
        .get("", read(App).of("secrets"), secrets::list)
        .post("", write(App).of("secrets"), secrets::change)
        .get("/{name}", read(App).of("secrets"), secrets::get)
        .post("/{name}", write(App).of("secrets"), secrets::set)
        .delete("/{name}", write(App).of("secrets"), secrets::remove)
        .post("/{name}/type/{kind}", write(App).of("secrets"), secrets::set_typed)
        .post("/{name}/type/{kind}/generate", write(App).of("secrets"), secrets::generate_typed);
    let secret_keys = Routes::below("/v1/apps/{app}/secretkeys")
        .get("", read(App).of("secretkeys"), secret_keys::list)
        .get("/types", read(App).of("secretkeys"), secret_keys::types)
        .get("/{name}", read(App).of("secretkeys"), secret_keys::get)
        .post("/{name}", write(App).of("secretkeys"), secret_keys::set)
        .delete("/{name}", write(App).of("secretkeys"), secret_keys::remove)
        .post("/{name}/generate", write(App).of("secretkeys"), secret_keys::generate)
        .post("/{name}/encrypt", control(App).of("secretkeys"), secret_keys::encrypt)
        .post("/{name}/decrypt", control(App).of("secretkeys"), secret_keys::decrypt)
        .post("/{name}/sign", control(App).of("secretkeys"), secret_keys::sign)
        .post("/{name}/verify", control(App).of("secretkeys"), secret_keys::verify);
    let volumes = Routes::below("/v1/apps/{app}/volumes")
        .get("", read(App), volumes::list)
        .post("", create(App), volumes::create)
        .get("/{volume}", read(Volume), volumes::get)
        .put("/{volume}", write(Volume), volumes::update)
        .delete("/{volume}", delete(Volume), volumes::destroy)
        .put("/{volume}/extend", write(Volume), volumes::extend);
    let app = Routes::below("/v1/apps/{app}")
        .get("", read(App), apps::get)
        .delete("", delete(App), apps::destroy)
        .get("/logs", read(App).of("logs"), logs::stream)
        .get("/watch", read(App), watch::app)
        .get("/machines", read(App), machines::list)
        .post("/machines", create(App), machines::create)
        .post("/machines/batch", create(App), batch::create)
        .get("/tokens", read(App).of("tokens"), app_tokens::list)
        .delete("/tokens/{token}", read(App), app_tokens::revoke)
        .post("/deploy_token", create(App).of("tokens"), app_tokens::deploy_token);
    let org = Routes::below("/v1/orgs/{org}")
        .get("", read(Org), orgs::get)
        .delete("", delete(Org).of("deletion"), orgs::delete)
        .get("/machines", read(Org), orgs::machines::list)
        .get("/volumes", read(Org), volumes::of_org)
        .get("/watch", read(Org), watch::org)
        .get("/members", read(Org).of("membership"), orgs::members)
        .post("/members", write(Org).of("membership"), orgs::put_member)
        .delete("/members/{email}", write(Org).of("membership"), orgs::remove_member)
        .get("/audit", read(Org).of("audit"), audit::of_org)
        .get("/tokens", read(Org).of("tokens"), orgs::tokens)
        // What the caller needs depends on the token: the operations check it.
        .post("/tokens", create(Several), orgs::create_token)
        .delete("/tokens/{token}", delete(Several), orgs::revoke_token);
    let v1 = Routes::below("/v1")
        .get("/apps", read(Several), apps::list)
        .post("/apps", create(Several), apps::create)
        .get("/orgs", read(Several), orgs::list)
        .post("/orgs", create(Platform), orgs::create)
        .get("/images", read(Platform), images::list)
        .delete("/images", delete(Platform), images::remove)
        .delete("/images/{*reference}", delete(Platform), images::remove_path)
        .post("/images/import", create(Platform), images::import)
        .get("/platform/hosts", read(Platform), platform::hosts)
        .get("/platform/regions", read(Token), platform::regions)
        .get("/platform/host-names", read(Token), platform::host_names)
        .post("/platform/placements", read(Token), platform::placements)
        .get("/platform/audit", read(Platform), audit::of_platform)
        .get("/tokens/current", read(Token), tokens::current)
        // The header that they verify is in the body; clients send no other.
        .post("/tokens/authenticate", read(Open), tokens::authenticate)
        .post("/tokens/authorize", read(Open), tokens::authorize)
        .post("/tokens/oidc", write(Several).or_itself(), oidc::token);
    Routes::below("")
        .get("/api/v1/apps/{app}/logs", read(App).of("logs"), logs::page)
        .get("/api/v1/organizations", read(Several), uiex::orgs::list)
        .get("/api/v1/organizations/{org}", read(Several), uiex::orgs::get)
        .get("/api/v1/apps/{app}/releases", read(App), releases::list)
        .get("/api/v1/apps/{app}/releases/current", read(App), releases::current)
        .get("/api/v1/releases/all_current", read(Several), releases::all_current)
        // The body or the record names the app: the operations check the caller.
        .post("/api/v1/releases", write(Several), releases::create)
        .patch("/api/v1/releases/{release}", write(Several), releases::change)
        .post("/api/v1/builds", write(Several), builds::create)
        .post("/api/v1/builds/finish", write(Several), builds::finish)
        // Who logs in has no token yet.
        .post("/api/v1/cli_sessions", read(Open), logins::begin)
        .get("/api/v1/cli_sessions/{login}", read(Open), logins::take)
        .post("/api/v1/sessions", read(Open), logins::with_password)
        .get("/login/{login}", read(Open), logins::page)
        .post("/login/{login}", read(Open), logins::complete)
        // Each of its fields declares what the caller needs.
        .post("/graphql", read(Several), graphql::post)
        // The description of the API is no secret.
        .get("/openapi.json", read(Open), description::document)
        .get("/docs", read(Open), description::page)
        .get("/{org}/.well-known/openid-configuration", read(Open), oidc::configuration)
        .get("/{org}/.well-known/jwks", read(Open), oidc::jwks)
        .and(v1)
        .and(app)
        .and(org)
        .and(machine)
        .and(secrets)
        .and(volumes)
        .and(secret_keys)
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
