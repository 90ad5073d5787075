//! Organisations and their networks.

use serde::{Deserialize, Serialize};

/// An organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrgRecord {
    /// Name in paths.
    pub slug: String,
    /// Displayed name.
    pub name: String,
    /// Numeric id that clients display.
    pub number: i32,
}

/// A 6PN network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its number.
    pub number: u32,
}
