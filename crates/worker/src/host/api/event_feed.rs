//! The events of all machines, followed.

use crate::host::registry::Worker;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::{CallContext, EventFeed, EventFilter, FeedItem, HostError};

#[async_trait]
impl EventFeed for Worker {
    async fn follow_events(
        &self,
        context: CallContext,
        filter: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, HostError> {
        let follow = async {
            let followed = self.0.context.events.clone().follow(filter).await;
            followed.map_err(|err| HostError::Internal(rt::chain(&err)))
        };
        let items = self.within(&context, follow).await?;
        Ok(items.take_until(self.0.context.tasks.stopping()).boxed())
    }
}
