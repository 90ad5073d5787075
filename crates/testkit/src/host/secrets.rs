//! Secrets of the host in memory.

use super::{FakeHost, FakeMachine};
use async_trait::async_trait;
use host_api::{AppSecrets, CallContext, HostError, Secrets};
use model::id::AppId;
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

#[async_trait]
impl Secrets for FakeHost {
    async fn put_secrets(
        &self,
        context: CallContext,
        secrets: AppSecrets,
    ) -> Result<(), HostError> {
        self.enter_call("put_secrets", &context).await?;
        let known = self.secrets(secrets.app).map_or(0, |known| known.version);
        if secrets.version > known {
            self.all_secrets().insert(secrets.app, secrets);
        }
        self.leave_call("put_secrets").await
    }
}

impl FakeHost {
    /// The secrets that it has of an app.
    pub fn secrets(&self, app: AppId) -> Option<AppSecrets> {
        self.all_secrets().get(&app).cloned()
    }

    fn all_secrets(&self) -> MutexGuard<'_, BTreeMap<AppId, AppSecrets>> {
        self.0.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version that a boot of the machine is given now.
    pub(super) fn version_for_boot(&self, kept: &FakeMachine) -> Option<u64> {
        let secrets = self.secrets(kept.create.app)?;
        (!kept.machine.skip_secrets).then_some(secrets.version)
    }
}
