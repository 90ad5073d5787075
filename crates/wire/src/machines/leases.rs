//! Leases of machines. See
//! <https://fly.io/docs/machines/api/machines-resource/#create-a-machine-lease>.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A lease: its holder alone may change the machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// Sent with changes as the header `fly-machine-lease-nonce`. Absent where a machine
    /// is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Seconds since the epoch.
    pub expires_at: i64,
    /// The holder: the name of its token.
    #[serde(default)]
    pub owner: String,
    /// What the holder does, in its own words.
    #[serde(default)]
    pub description: String,
    /// Version of the machine's config.
    #[serde(default)]
    pub version: String,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the nonce.
        let mut shown = f.debug_struct("Lease");
        shown.field("owner", &self.owner).field("expires_at", &self.expires_at);
        shown.finish_non_exhaustive()
    }
}

/// Body of a request for a lease; may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskLease {
    /// Seconds until it expires; absent or zero means 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// What the caller does, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The answer to a call about a lease: `data` as the API is documented, and the same
/// fields beside it, where clients that were generated from the API's schema read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseAnswer {
    /// Always `success`.
    pub status: String,
    /// The lease.
    pub data: Lease,
    /// The same.
    #[serde(flatten)]
    pub lease: Lease,
}

impl From<Lease> for LeaseAnswer {
    fn from(lease: Lease) -> Self {
        Self { status: "success".into(), data: lease.clone(), lease }
    }
}

/// The answer to a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReleased {
    /// Always `success`.
    pub status: String,
    /// `{"ok":true}`.
    pub data: super::Done,
    /// Always true.
    pub ok: bool,
}

impl Default for LeaseReleased {
    fn default() -> Self {
        Self { status: "success".into(), data: super::Done { ok: true }, ok: true }
    }
}
