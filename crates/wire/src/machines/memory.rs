//! Memory of a machine that runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The memory of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineMemory {
    /// MiB that the machine may use.
    pub limit_mb: u32,
    /// MiB of these that its VM does not hold on the host.
    pub available_mb: u32,
}

/// `PUT …/memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetMemoryLimit {
    /// MiB.
    pub limit_mb: u32,
}

/// `POST …/memory/reclaim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReclaimMemory {
    /// MiB.
    pub amount_mb: u32,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryReclaimed {
    /// MiB that the VM has really given back to the host.
    pub actual_mb: u32,
}
