//! Secrets of apps on this host: kept sealed in `host.db`, so that machines can be
//! started while the control plane is away, and opened for each boot. `effective`
//! decides which of them a machine and its processes are given.

mod effective;

pub(crate) use effective::MachineSecrets;
#[cfg(test)]
pub(crate) use effective::tests;

use crate::context::HostContext;
use crate::db::SealedSecrets;
use crate::record::Record;
use host_api::{AppSecrets, HostError, ScopedSecret};
use model::id::AppId;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Secrets that arrived within this time are kept without a machine: its create follows.
const KEPT_UNUSED: Duration = Duration::from_secs(300);
/// How often secrets without a machine are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The context that the secrets of an app are sealed for.
fn place(app: AppId) -> String {
    format!("secrets on a host of app {app}")
}

impl HostContext {
    /// Seals and stores the secrets of an app, unless it has the same or a later version.
    pub(crate) async fn put_secrets(&self, secrets: AppSecrets) -> Result<(), HostError> {
        let failed = |err: sqlite::Error| HostError::Internal(rt::chain(&err));
        let AppSecrets { app, version, secrets } = secrets;
        let known = self.db.secrets_version(app).await.map_err(failed)?;
        if known.is_some_and(|known| known >= version) {
            return Ok(());
        }
        let json = serde_json::to_vec(&secrets).map(Zeroizing::new);
        let json = json.map_err(|err| HostError::Internal(format!("write secrets: {err}")))?;
        let sealed = self.secrets_key.seal(&self.rng, &place(app), &json);
        let sealed = SealedSecrets { version, sealed };
        self.db.put_secrets(app, sealed, self.clock.now_ms()).await.map_err(failed)
    }

    /// The secrets for a boot of a machine: the newest that this host has. The error is
    /// the reason why the machine cannot be started.
    pub(crate) async fn machine_secrets(&self, record: &Record) -> Result<MachineSecrets, String> {
        if record.skip_secrets {
            return Ok(MachineSecrets::default());
        }
        let stored = self.db.secrets(record.app).await;
        let stored =
            stored.map_err(|err| format!("read the secrets of its app: {}", rt::chain(&err)))?;
        let Some(SealedSecrets { version, sealed }) = stored else {
            return Ok(MachineSecrets::default());
        };
        let json = self.secrets_key.open(&place(record.app), &sealed);
        let json = json.map_err(|err| format!("the secrets of its app cannot be opened: {err}"))?;
        let secrets: Vec<ScopedSecret> = serde_json::from_slice(&json)
            .map_err(|err| format!("the secrets of its app cannot be read: {err}"))?;
        Ok(MachineSecrets::of(record, version, secrets))
    }
}

/// Removes the secrets of apps whose machines are gone from this host.
pub(crate) async fn forget_unused(host: Arc<HostContext>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let kept = u64::try_from(KEPT_UNUSED.as_millis()).unwrap_or(u64::MAX);
        let since = host.clock.now_ms().saturating_sub(kept);
        if let Err(err) = host.db.forget_secrets(since).await {
            tracing::warn!(error = rt::chain(&err), "cannot remove secrets that are not used");
        }
    }
}
