//! The machines of an organization.

use super::Machine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/orgs/{org}/machines`: one page, in the order of the last change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OrgMachines {
    /// The machines of this page.
    pub machines: Vec<OrgMachine>,
    /// Where the next page begins; empty after the last one.
    pub next_cursor: String,
    /// Id of the last machine of this page; empty if there is none.
    pub last_machine_id: String,
    /// Its `updated_at`, for `updated_after` of a later list.
    pub last_updated_at: String,
    /// Regions with hosts that did not answer: their machines are missing.
    pub error_regions: Vec<String>,
}

/// A machine with its app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OrgMachine {
    /// Id of the app.
    pub app_id: String,
    /// Name of the app.
    pub app_name: String,
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
}
