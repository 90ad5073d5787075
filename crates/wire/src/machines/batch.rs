//! Several creates in one request; an Updraft addition.

use super::{ErrorBody, Machine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer to `POST …/machines/batch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchResults {
    /// One for each request, in their order.
    pub results: Vec<BatchItem>,
}

/// The result of one create.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchItem {
    /// The HTTP status that the create by itself would have had.
    pub status: u16,
    /// The machine, if it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// What was accepted and is not acted on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
