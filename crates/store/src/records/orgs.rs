//! Organizations and their networks.

use model::id::{NetworkId, OrgId};
use serde::{Deserialize, Serialize};

/// An organization.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrgRecord {
    /// Name in paths.
    pub slug: String,
    /// Displayed name.
    pub name: String,
    /// Id; also the number that clients display.
    #[serde(rename = "number")]
    pub id: OrgId,
}

/// A 6PN network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its number.
    pub number: NetworkId,
}

/// A member of an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// E-mail address, in lower case.
    pub email: String,
    /// `admin`, `member` or `readonly`; a member with another role may do nothing.
    pub role: String,
    /// Milliseconds since the epoch.
    pub joined_ms: u64,
}
