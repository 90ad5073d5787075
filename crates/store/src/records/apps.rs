//! Apps.

use model::id::{AppId, AppName, NetworkId};
use serde::{Deserialize, Serialize};

/// An app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppRecord {
    /// Name.
    pub name: AppName,
    /// Id; also the number that clients display.
    #[serde(rename = "number")]
    pub id: AppId,
    /// Slug of the organization.
    pub org: String,
    /// Name of the network.
    pub network: String,
    /// Number of the network.
    pub network_number: NetworkId,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// A host has taken a machine of it at least once.
    pub deployed: bool,
    /// It is being deleted: nothing may be added, and a reconciler destroys the
    /// rest.
    pub deleting: bool,
    /// Idempotency key of its create.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// Role given at its create; empty for plain apps.
    #[serde(default)]
    pub role: String,
}
