//! Routes with what each needs. A route cannot be added without a need.

use crate::access::Need;
use crate::http_api::HttpApi;
use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{any, delete, get, patch, post, put};
use std::collections::HashMap;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its method; `None` for all.
    pub method: Option<Method>,
    /// Its path, with the names of its parts in braces.
    pub path: String,
    /// What a caller needs.
    pub need: Need,
}

/// Routes below one path.
pub(super) struct Routes {
    below: &'static str,
    router: Router<HttpApi>,
    table: Vec<Route>,
}

macro_rules! methods {
    ($($name:ident: $method:expr;)*) => {
        $(pub(super) fn $name<H, T>(self, path: &str, need: Need, endpoint: H) -> Self
        where
            H: Handler<T, HttpApi>,
            T: 'static,
        {
            let path = format!("{}{path}", self.below);
            let router = self.router.route(&path, $name(endpoint));
            let mut table = self.table;
            table.push(Route { method: $method, path, need });
            Self { router, table, ..self }
        })*
    };
}

impl Routes {
    /// No routes yet; the paths of those to come begin with `below`.
    pub(super) fn below(below: &'static str) -> Self {
        Self { below, router: Router::new(), table: Vec::new() }
    }

    methods! {
        get: Some(Method::GET);
        post: Some(Method::POST);
        put: Some(Method::PUT);
        patch: Some(Method::PATCH);
        delete: Some(Method::DELETE);
        any: None;
    }

    /// These routes and those.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.table.extend(others.table);
        Self { router: self.router.merge(others.router), ..self }
    }

    /// The router, and what its routes need.
    pub(super) fn build(self) -> (Router<HttpApi>, Needs) {
        (self.router, Needs::new(self.table))
    }
}

/// What the routes need.
#[derive(Debug)]
pub(super) struct Needs {
    routes: Vec<Route>,
    /// Indexes of the routes of a path.
    by_path: HashMap<String, Vec<usize>>,
}

impl Needs {
    fn new(routes: Vec<Route>) -> Self {
        let mut by_path: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            by_path.entry(route.path.clone()).or_default().push(index);
        }
        Self { routes, by_path }
    }

    /// All routes.
    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// What a call of a route needs. `None` if the path has no such method: then the router
    /// calls no endpoint.
    pub(super) fn of(&self, method: &Method, path: &str) -> Option<Need> {
        // A HEAD is answered by the endpoint of GET.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let mut routes = self.by_path.get(path)?.iter().map(|index| &self.routes[*index]);
        let found = routes.find(|route| route.method.as_ref().is_none_or(|own| own == method));
        found.map(|route| route.need)
    }
}
