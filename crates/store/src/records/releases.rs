//! Releases and builds of apps.

use model::id::{AppId, ReleaseId};
use model::release::{Status, Strategy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The releases of one app that are kept. Definitions, which may be large, are in records of
/// their own: [`ReleaseContentRecord`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReleasesRecord {
    /// The last version that was given to a release. No version is given twice.
    pub last_version: u32,
    /// In order of versions.
    #[serde(default)]
    pub releases: Vec<ReleaseRecord>,
}

impl AppReleasesRecord {
    /// The newest one, whatever its status.
    pub fn newest(&self) -> Option<&ReleaseRecord> {
        self.releases.last()
    }

    /// The newest one that is complete.
    pub fn newest_complete(&self) -> Option<&ReleaseRecord> {
        self.releases.iter().rev().find(|release| release.status == Status::Complete)
    }
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Id.
    pub id: ReleaseId,
    /// Number in its app, from 1.
    pub version: u32,
    /// How far it is.
    pub status: Status,
    /// How it replaces machines.
    #[serde(default)]
    pub strategy: Strategy,
    /// The image as it was given; empty if none was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The build of the image; 0 if none was named.
    #[serde(default)]
    pub build_id: i64,
    /// The member whose token made it, else the name of the token.
    #[serde(default)]
    pub user: String,
    /// One line about what it is.
    #[serde(default)]
    pub description: String,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Last change, milliseconds since the epoch.
    pub updated_ms: u64,
}

/// What a release deploys. The key is the release's id, and the record leads to its app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseContentRecord {
    /// App.
    pub app: AppId,
    /// Number in its app.
    pub version: u32,
    /// The config of the app, as the client sent it.
    pub definition: Value,
    /// What clients have noted about it; null until they have.
    #[serde(default)]
    pub metadata: Value,
}

/// The newest builds of one app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppBuildsRecord {
    /// Oldest first.
    #[serde(default)]
    pub builds: Vec<BuildRecord>,
}

/// A build of an image, which a client has carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// A random number, unique in its app.
    pub id: i64,
    /// `started`, then `completed` or `failed`.
    pub status: String,
    /// The kind of builder, as the client names it.
    #[serde(default)]
    pub builder_type: String,
    /// Ways of building that the client was about to try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strategies: Vec<String>,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Its end, milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// What the client has reported about it at its end.
    #[serde(default)]
    pub report: Value,
}
