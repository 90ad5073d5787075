//! Secrets of the apps whose machines the host has.

use crate::host::registry::Worker;
use async_trait::async_trait;
use host_api::{AppSecrets, CallContext, HostError, Secrets};

#[async_trait]
impl Secrets for Worker {
    async fn put_secrets(
        &self,
        context: CallContext,
        secrets: AppSecrets,
    ) -> Result<(), HostError> {
        self.within(&context, self.0.context.put_secrets(secrets)).await
    }
}
