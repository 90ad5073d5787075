//! The second REST service that flyctl asks, below `/api/v1`: organizations, releases and builds.
//! Its public schema is that of the client, <https://pkg.go.dev/github.com/superfly/fly-go>.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexOrg {
    /// The same as the slug.
    pub id: String,
    /// Number, unique on this platform.
    pub internal_numeric_id: i32,
    /// Name in paths.
    pub slug: String,
    /// The same.
    pub raw_slug: String,
    /// Displayed name.
    pub name: String,
    /// It is the one that every platform has.
    pub personal: bool,
    /// `true`: nothing is billed here, and clients hold back a second machine where it is not.
    pub billable: bool,
    /// Likewise `true`.
    pub paid_plan: bool,
    /// `CURRENT`.
    pub billing_status: String,
    /// `false`.
    pub provisions_beta_extensions: bool,
    /// Empty: there are no builders yet.
    pub remote_builder_image: String,
}

/// `GET /api/v1/organizations/{org}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexOrgShown {
    /// The organization.
    pub organization: UiexOrg,
}

/// `GET /api/v1/organizations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexOrgList {
    /// By slug.
    pub organizations: Vec<UiexOrg>,
}

/// A release of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexRelease {
    /// Id.
    pub id: String,
    /// Number in its app, from 1.
    pub version: u32,
    /// It is complete.
    pub stable: bool,
    /// It is pending or running.
    pub in_progress: bool,
    /// `pending`, `running`, `complete`, `failed`, `interrupted` or `rolled_back`.
    pub status: String,
    /// `ROLLING`, `CANARY`, `BLUEGREEN`, `IMMEDIATE`, `ROLLING_ONE` or `SIMPLE`.
    pub strategy: String,
    /// The member whose token made it, else the name of the token.
    pub user: String,
    /// RFC 3339.
    pub created_at: String,
    /// The image as it was given.
    pub image_ref: String,
}

/// `POST /api/v1/releases`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateUiexRelease {
    /// Name of the app.
    #[serde(default)]
    pub app_name: String,
    /// The build of the image; 0 or absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<i64>,
    /// The config of the app, an object; it is answered as it was sent.
    #[serde(default)]
    pub definition: Value,
    /// The image of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How machines are replaced; absent means `ROLLING`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
}

/// The answer to a create of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexReleaseCreated {
    /// The release.
    pub release: UiexRelease,
}

/// `PATCH /api/v1/releases/{release}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateUiexRelease {
    /// The new status; absent keeps the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// An object that replaces the notes about it; null or absent keeps them.
    #[serde(default)]
    pub metadata: Value,
}

/// `GET /api/v1/apps/{app}/releases`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexReleaseList {
    /// Newest first.
    pub releases: Vec<UiexRelease>,
}

/// `GET /api/v1/releases/all_current`: when the current release of each app was made (RFC 3339), by
/// the name of the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UiexCurrentReleases(pub BTreeMap<String, String>);

/// `POST /api/v1/builds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateUiexBuild {
    /// Name of the app.
    #[serde(default)]
    pub app_name: String,
    /// The kind of builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder_type: Option<String>,
    /// The machine that the image is for, if it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Ways of building that the client is about to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategies_available: Option<Vec<String>>,
}

/// `POST /api/v1/builds/finish`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FinishUiexBuild {
    /// Name of the app.
    #[serde(default)]
    pub app_name: String,
    /// Id of the build.
    #[serde(default)]
    pub build_id: i64,
    /// `completed` or `failed`.
    #[serde(default)]
    pub status: String,
    /// What the client reports about the build.
    #[serde(flatten)]
    pub report: UiexBuildReport,
}

/// What a client reports about a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexBuildReport {
    /// The machine that the image is for, if it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The ways that were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategies_attempted: Option<Vec<UiexBuildAttempt>>,
    /// The builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder_meta: Option<UiexBuilder>,
    /// What was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_image: Option<UiexBuiltImage>,
    /// Times in milliseconds, by the name of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<BTreeMap<String, i64>>,
    /// The end of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}

/// One way of building that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UiexBuildAttempt {
    /// Its name.
    pub strategy: String,
    /// What came of it.
    pub result: String,
    /// Its error.
    pub error: String,
    /// A note.
    pub note: String,
}

/// The builder of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UiexBuilder {
    /// Its kind.
    pub builder_type: String,
    /// It is BuildKit.
    pub buildkit_enabled: bool,
    /// Version of Docker.
    pub docker_version: String,
    /// Its platform.
    pub platform: String,
    /// The app that it is in.
    pub remote_app_name: String,
    /// The machine that it is.
    pub remote_machine_id: String,
}

/// An image that was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UiexBuiltImage {
    /// Its id.
    pub id: String,
    /// Its size in bytes.
    pub size_bytes: i64,
    /// Its tag.
    pub tag: String,
}

/// A build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UiexBuild {
    /// Id, a random number.
    pub id: i64,
    /// `started`, `completed` or `failed`.
    pub status: String,
    /// From its begin to its end; 0 before the end.
    pub wallclock_time_ms: i64,
}
