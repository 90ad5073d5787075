//! Where new machines would be placed
//! (<https://fly.io/docs/machines/api/platform-resource/>).

use crate::machines::{Extra, Guest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `POST /v1/platform/placements`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementRequest {
    /// Organization of the machines.
    #[serde(default)]
    pub org_slug: String,
    /// Their size; absent means performance-1x.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Guest>,
    /// Region expression; absent means the nearest region, then any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How many; 0 or absent means as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Name of a volume that each needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// Bytes of that volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size_bytes: Option<u64>,
    /// Weights of what decides, such as `region` and `spread`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<String, i64>>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Answer to a [`PlacementRequest`]: advice, no reservation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Placements {
    /// The regions, the best first.
    #[serde(default)]
    pub regions: Vec<PlacedInRegion>,
}

/// Machines that a region would take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlacedInRegion {
    /// Code.
    pub region: String,
    /// How many.
    #[serde(default)]
    pub count: u64,
    /// How many of them may be created at once.
    #[serde(default)]
    pub concurrency: u64,
}
