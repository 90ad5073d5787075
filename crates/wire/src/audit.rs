//! The audit log; an Updraft addition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One call that changed something, or that was denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Grows with time.
    pub id: String,
    /// The time of the answer, RFC 3339.
    pub at: String,
    /// Slug of the organization that the call was about.
    pub org: Option<String>,
    /// Number of the organization: a later one of the same slug has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<u32>,
    /// The caller.
    pub caller: AuditCaller,
    /// Method of the call.
    pub method: String,
    /// The route, with the names of its parts in braces.
    pub route: String,
    /// The path, with the ids in it; without the query.
    pub path: String,
    /// HTTP status of the answer; 499 if the client left before it: the change may have been made.
    pub status: u16,
    /// How many calls of the caller the entry stands for, if they are more than one: too many
    /// were refused in one minute, and this is the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Address of the client; absent if the call came out of a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The client's own name, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// The caller of an audited call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditCaller {
    /// Public id of the token that permitted the call; those of all, with commas, if it is not
    /// known which of several did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Name of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// E-mail address of the member whom the token belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The machine that the call came out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// `GET /v1/orgs/{org}/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// The newest first.
    pub entries: Vec<AuditEntry>,
    /// Value of `cursor` for the older ones; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
