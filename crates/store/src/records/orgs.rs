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
