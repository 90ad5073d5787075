//! The machine as the API shows it.

use super::{Lease, MachineConfig, MachineEvent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// 14 lower-case hex digits, for life.
    pub id: String,
    /// Unique within its app.
    pub name: String,
    /// See `model::life::State`.
    pub state: String,
    /// Region code.
    pub region: String,
    /// What the image reference resolved to.
    pub image_ref: ImageRef,
    /// Version of the config, a ULID.
    pub instance_id: String,
    /// The same as `instance_id`.
    pub version: String,
    /// 6PN address in full: eight groups, not compressed.
    pub private_ip: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// As given, with defaults of `guest` filled in. Absent in summaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Arc<MachineConfig>>,
    /// In place of `config` when the host cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_config: Option<Arc<MachineConfig>>,
    /// Newest first.
    #[serde(default)]
    pub events: Vec<Arc<MachineEvent>>,
    /// Results of checks.
    #[serde(default)]
    pub checks: Vec<CheckStatus>,
    /// What its containers do, if it has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerStatus>,
    /// It has declared itself busy until then, RFC 3339: it is not stopped as idle before; an
    /// Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_until: Option<String>,
    /// Only in the answer to a create with `lease_ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The lease that is held on it, without its nonce; only if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// `ok`, `unknown` or `unreachable`.
    pub host_status: String,
    /// What its host can do that others cannot; nothing so far.
    #[serde(default)]
    pub host_features: Vec<String>,
    /// Not routed to.
    #[serde(default)]
    pub cordoned: bool,
    /// What isolates this machine from its host: `kvm` or `tcg`; an Updraft
    /// addition, so that a machine never runs weaker isolated unseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// Private IPv4 address that the edge uses; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ipv4: Option<String>,
    /// Version of the app's secrets that its present or last boot was given; an Updraft
    /// addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_version: Option<u64>,
    /// It is given none of the app's secrets; an Updraft addition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_secrets: bool,
}

/// What an image reference resolved to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageRef {
    /// Host of the registry, or `local` for an imported image.
    pub registry: String,
    /// Path within the registry.
    pub repository: String,
    /// Tag, or empty.
    #[serde(default)]
    pub tag: String,
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Labels of the image's config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    /// Key of the config, or a generated name for service checks.
    pub name: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What the newest run saw.
    pub output: String,
    /// RFC 3339; last change of the status.
    pub updated_at: String,
}

/// What one container does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// `waiting`, `started`, `healthy`, `unhealthy`, `restarting`, `stopped` or `failed`.
    pub state: String,
}

/// An earlier or the current version of a machine's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineVersion {
    /// Instance id.
    pub version: String,
    /// The config of that version.
    pub user_config: MachineConfig,
}
