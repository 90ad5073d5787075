//! Organizations and their members; Updraft additions to the Machines API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/orgs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrg {
    /// Displayed name.
    pub name: String,
    /// Name in paths; made from the name if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Org {
    /// The same as the slug.
    pub id: String,
    /// Name in paths.
    pub slug: String,
    /// Displayed name.
    pub name: String,
    /// `PERSONAL` for the one that every platform has, else `SHARED`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number, unique on this platform.
    pub internal_numeric_id: i32,
}

/// `GET /v1/orgs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrgList {
    /// By slug.
    pub orgs: Vec<Org>,
}

/// A member of an organization, and the body that adds or changes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// E-mail address, in lower case.
    pub email: String,
    /// `admin`, `member` or `readonly`.
    #[serde(default = "member")]
    pub role: String,
    /// RFC 3339; no part of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_at: Option<String>,
}

fn member() -> String {
    "member".into()
}

/// `GET /v1/orgs/{org}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberList {
    /// By e-mail address.
    pub members: Vec<Member>,
}
