//! Machines and their names.

use serde::{Deserialize, Serialize};

/// Which machine has a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameRecord {
    /// Machine id.
    pub id: String,
}

/// The app that a machine belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineRecord {
    /// App name.
    pub app: String,
    /// Name.
    pub name: String,
    /// Time of the claim, milliseconds since the epoch.
    pub claimed_ms: u64,
}
