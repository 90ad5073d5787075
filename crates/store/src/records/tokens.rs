//! API tokens.

use model::id::HostId;
use serde::{Deserialize, Serialize};

/// A token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Name.
    pub name: String,
    /// `admin`.
    pub kind: String,
    /// SHA-256 of the token in hex, as in the key, for the comparison in
    /// constant time.
    pub sha256: String,
    /// Number of the host whose token file it came from. Each node of the
    /// control plane replaces its own admin token only. `None` for tokens of
    /// before there could be several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<HostId>,
}
