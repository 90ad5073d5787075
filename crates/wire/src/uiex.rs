//! The second REST service that flyctl asks, below `/api/v1`: organizations. Its public schema
//! is that of the client, <https://pkg.go.dev/github.com/superfly/fly-go>.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
