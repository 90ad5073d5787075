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
    /// It is being deleted: nothing is made in it any more, and it does not exist for clients.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
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
