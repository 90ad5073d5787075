//! API tokens.

use model::id::{AppId, HostId, OrgId};
use serde::{Deserialize, Serialize};
use wire::tokens::CommandRule;

/// A token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Name.
    pub name: String,
    /// What it is for: `admin`, `org`, `deploy`, `readonly`, `ssh` or `machine-exec`. A token
    /// of another kind permits nothing.
    pub kind: String,
    /// SHA-256 of the token in hex, as in the key, for the comparison in
    /// constant time.
    pub sha256: String,
    /// Number of the host whose token file it came from. Each node of the
    /// control plane replaces its own admin token only. `None` for tokens of
    /// before there could be several nodes, and for those that the API made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<HostId>,
    /// The organization that it is for; `None` for an admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgId>,
    /// The apps that it is for; all of the organization if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppId>,
    /// The commands that a token of the kind `machine-exec` may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandRule>,
    /// Milliseconds since the epoch; 0 for tokens of before it was recorded.
    #[serde(default)]
    pub created_ms: u64,
    /// The end of its validity, milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// E-mail address of the member whom it belongs to: the member's role bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The roles that it may be used with, as bits of the caveat `AllowedRoles`: those of
    /// the token that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<u32>,
    /// It is a macaroon, and `sha256` is that of its key id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub macaroon: bool,
}

/// The last use of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUseRecord {
    /// Milliseconds since the epoch.
    pub used_ms: u64,
}
