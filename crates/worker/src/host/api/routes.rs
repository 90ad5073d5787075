//! The table of machines for the edges.

use crate::host::registry::Worker;
use async_trait::async_trait;
use host_api::{CallContext, HostError, RouteSubscription, Routes};

#[async_trait]
impl Routes for Worker {
    async fn routes(&self, _context: CallContext) -> Result<RouteSubscription, HostError> {
        Ok(self.0.context.routes.subscribe(&self.0.context.tasks))
    }
}
