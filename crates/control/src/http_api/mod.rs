//! The HTTP front: the Machines API, version 1. Each endpoint parses its request,
//! calls an operation of a subject, and writes the answer; errors are mapped in one
//! place ([`answer`]). `routes/` has the table of routes with what a caller needs for each,
//! which `auth` compares with the caller's tokens. `extract/` reads bodies and queries, `endpoints/` has one
//! file per group of endpoints, `openapi/` describes them.
//!
//! See <https://fly.io/docs/machines/api/>.

mod answer;
mod audit;
mod auth;
mod caller;
mod endpoints;
mod extract;
mod html;
mod idempotency;
mod observe;
mod openapi;
mod rate_limit;
mod routes;
mod table;
mod warnings;

use crate::apps::Readable;
use crate::{Error, Platform, graphql};
use prometheus_client::registry::Registry;
use std::sync::Arc;

pub(crate) use answer::too_large;
pub(crate) use caller::{Authenticated, FromMachine};
pub use caller::{Connection, Peer};
pub use table::Route;

/// Settings of the HTTP front.
#[derive(Clone, Copy, Debug)]
pub struct HttpConfig {
    /// Most bytes of a JSON body.
    pub body_limit: usize,
    /// Time in which a JSON body must have arrived, and the most time between two
    /// parts of an upload.
    pub body_timeout: std::time::Duration,
    /// Requests beyond the limits of Fly's Machines API are refused.
    pub rate_limits: bool,
    /// Time of a GraphQL request that only reads.
    pub graphql_timeout: std::time::Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let body_timeout = std::time::Duration::from_secs(30);
        let graphql_timeout = std::time::Duration::from_secs(30);
        Self { body_limit: 1024 * 1024, body_timeout, rate_limits: false, graphql_timeout }
    }
}

/// The HTTP front over a platform. Cheap to clone.
#[derive(Clone)]
pub struct HttpApi {
    platform: Platform,
    config: HttpConfig,
    metrics: Arc<observe::Metrics>,
    /// `None`: there are no limits.
    buckets: Option<Arc<rate_limit::Buckets>>,
    graphql: Arc<graphql::Front>,
}

impl std::fmt::Debug for HttpApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("HttpApi");
        shown
            .field("platform", &self.platform)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl HttpApi {
    /// A front whose metrics go into `registry`.
    pub fn new(platform: Platform, config: HttpConfig, registry: &mut Registry) -> Self {
        let metrics = Arc::new(observe::Metrics::register(registry));
        let buckets = config.rate_limits.then(Arc::default);
        let graphql = Arc::new(graphql::Front::new(config.graphql_timeout));
        Self { platform, config, metrics, buckets, graphql }
    }

    /// The apps that the tokens of a header `Authorization` may read: for what is served beside
    /// the API, such as metrics.
    ///
    /// # Errors
    /// There is no valid token, or the store failed.
    pub async fn readable_apps(&self, header: &str) -> Result<Readable, Error> {
        auth::readable(self, header).await
    }

    /// The platform that it is a front of.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }
}
