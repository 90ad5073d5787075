//! The HTTP API: thin handlers around the store, the hosts and the rules.

mod apps;
mod auth;
mod body;
mod create;
mod error;
mod exec;
mod find;
pub mod guest_api;
mod images;
mod life;
mod logs;
mod machines;
mod metadata;
mod observe;
mod platform;
mod query;
mod routes;
mod setup;
mod wait;

use crate::ports::{Hosts, Store};
pub(crate) use error::ApiError;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Apps are reached at `<app>.<domain>`.
    pub domain: String,
    /// Port of the edge, where it belongs into the address of an app.
    pub edge_port: Option<u16>,
    /// Most bytes of a JSON body.
    pub body_limit: usize,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { domain: "localhost".into(), edge_port: None, body_limit: 1024 * 1024 }
    }
}

/// What the API works with.
#[derive(Clone)]
pub struct World {
    /// The global state.
    pub store: Arc<dyn Store>,
    /// Owners of the machines.
    pub hosts: Arc<dyn Hosts>,
    /// For moments that are stored.
    pub clock: rt::Clock,
    /// For ids and names.
    pub rng: rt::Rng,
    /// Owns work that goes on when its client leaves, and the reconcilers.
    pub tasks: rt::Tasks,
}

/// The public API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(crate) config: Arc<ApiConfig>,
    pub(crate) world: World,
    metrics: Arc<observe::Metrics>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Api {
    /// An API over `world`, whose metrics go into `registry`.
    pub fn new(config: ApiConfig, world: World, registry: &mut Registry) -> Self {
        let metrics = Arc::new(observe::Metrics::register(registry));
        Self { config: Arc::new(config), world, metrics }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.world.store
    }

    /// Runs `work` to its end also when the client goes away in between.
    async fn carry_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.world.tasks.spawn(work).await;
        done.unwrap_or_else(|err| Err(ApiError::internal(format!("request was cut off: {err}"))))
    }
}
