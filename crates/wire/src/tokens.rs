//! Tokens.

use serde::{Deserialize, Serialize};

/// A command that a token may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRule {
    /// The command, or the beginning of it.
    pub args: Vec<String>,
    /// It must be the whole command.
    #[serde(default)]
    pub exact: bool,
}

/// Answer to `GET /v1/tokens/current`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentTokens {
    /// The tokens of the request.
    pub tokens: Vec<CurrentToken>,
}

/// A token as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentToken {
    /// Public id: it does not reveal the token.
    pub token_id: String,
    /// Name; an Updraft addition.
    #[serde(default)]
    pub name: String,
    /// What it is for; an Updraft addition.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Slug of its organization.
    pub org_slug: String,
    /// The same.
    pub organization: String,
    /// The apps that it is for; all of the organization if there are none.
    #[serde(default)]
    pub apps: Vec<TokenApp>,
    /// E-mail address of the member whom it belongs to.
    #[serde(default)]
    pub user: Option<String>,
    /// The machine that alone may use it.
    #[serde(default)]
    pub restricted_to_machine: Option<String>,
    /// The machine that the request came out of.
    #[serde(default)]
    pub source_machine_id: Option<String>,
    /// End of its validity, RFC 3339; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// An app that a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenApp {
    /// Its name.
    pub name: String,
}
