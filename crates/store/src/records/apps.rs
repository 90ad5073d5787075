//! Apps.

use serde::{Deserialize, Serialize};

/// An app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppRecord {
    /// Name.
    pub name: String,
    /// Numeric id that clients display.
    pub number: i32,
    /// Slug of the org.
    pub org: String,
    /// Name of the network.
    pub network: String,
    /// Number of the network.
    pub network_number: u32,
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
    /// Role given at its create, such as `postgres_cluster`; empty for plain apps.
    #[serde(default)]
    pub role: String,
}
