//! Secrets of the apps whose machines a host has.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::AppId;
use serde::{Deserialize, Serialize};
use wire::secret::Secret;
use wire::secrets::SecretScope;

/// Secrets of apps on one host.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Replaces the secrets that the host has of an app, unless it has the same or a later
    /// version. Boots of its machines from then on are given these. The host forgets them
    /// a while after it has lost the last machine of the app.
    async fn put_secrets(&self, context: CallContext, secrets: AppSecrets)
    -> Result<(), HostError>;
}

/// All secrets of one app. They travel in plain text, over mutual TLS, to hosts that have
/// machines of the app or are about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSecrets {
    /// App.
    pub app: AppId,
    /// Grows with each change; never smaller than the milliseconds since the epoch when
    /// it was made.
    pub version: u64,
    /// The secrets, in any order.
    pub secrets: Vec<ScopedSecret>,
}

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopedSecret {
    /// Name.
    pub name: String,
    /// The machines that it is for; `None` means all of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SecretScope>,
    /// Value.
    pub value: Secret,
}
