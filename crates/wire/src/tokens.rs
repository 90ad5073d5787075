//! Tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A command that a token may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRule {
    /// The command, or the beginning of it.
    pub args: Vec<String>,
    /// It must be the whole command.
    #[serde(default)]
    pub exact: bool,
}

/// Answer to `GET /v1/tokens/current`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrentTokens {
    /// The tokens of the request.
    pub tokens: Vec<CurrentToken>,
}

/// A token as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenApp {
    /// Its name.
    pub name: String,
}

/// `POST /v1/orgs/{org}/tokens`, an Updraft addition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// `org`, `deploy`, `readonly`, `ssh` or `machine-exec`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name; the kind if it is absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Length of its life in Go's notation, such as `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
    /// The app that it is for; required by `deploy`, `ssh` and `machine-exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Commands that a token of the kind `machine-exec` may run; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandRule>,
    /// E-mail address of the member whom it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Make a macaroon, which its holder can narrow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub macaroon: bool,
}

/// A token, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Public id.
    pub id: String,
    /// Name.
    pub name: String,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: String,
    /// Slug of its organization.
    pub org: String,
    /// The app that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Commands that it may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandRule>,
    /// E-mail address of the member whom it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// It is a macaroon.
    #[serde(default)]
    pub macaroon: bool,
    /// RFC 3339.
    pub created_at: String,
    /// End of its validity, RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// Its last use, at most ten minutes late; RFC 3339.
    #[serde(default)]
    pub last_used_at: Option<String>,
}

/// Answer to a create: the only time that the text is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// The text.
    pub token: String,
    /// The rest.
    #[serde(flatten)]
    pub about: Token,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("about", &self.about).finish_non_exhaustive()
    }
}

/// `GET /v1/orgs/{org}/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// By the time at which they were made.
    pub tokens: Vec<Token>,
}

/// `POST /v1/apps/{app}/deploy_token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateDeployToken {
    /// Length of its life in Go's notation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
}

/// Answer to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployToken {
    /// The text.
    pub token: String,
}

/// `POST /v1/tokens/authenticate`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthenticateToken {
    /// The value of an `Authorization` header.
    pub header: String,
}

/// A valid token of a header: the answer to `authenticate` is a list of these.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedToken {
    /// All that restricts it: caveats as `{"type", "body"}`.
    pub caveats: Vec<serde_json::Value>,
    /// Its bytes in base64: those that a macaroon encodes, or the text of an opaque token.
    pub permission_token: String,
    /// The token as its holder sees it; an Updraft addition.
    #[serde(flatten)]
    pub about: CurrentToken,
}

impl std::fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedToken").field("about", &self.about).finish_non_exhaustive()
    }
}

/// Answer to `POST /v1/tokens/authorize`: the access is permitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorizedAccess {
    /// The access, with numbers in place of names.
    pub access: ResolvedAccess,
    /// The token that permits it.
    pub verified_token: VerifiedToken,
}

/// An access by the numbers of its organization and app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedAccess {
    /// Letters of `rwcdC`.
    pub action: String,
    /// Number of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orgid: Option<u64>,
    /// Number of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appid: Option<u64>,
    /// Part of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_feature: Option<String>,
    /// Part of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Id of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Id of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Part of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_feature: Option<String>,
    /// Name of a GraphQL mutation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation: Option<String>,
    /// Id of the machine that the request comes out of.
    #[serde(default, rename = "sourceMachine", skip_serializing_if = "Option::is_none")]
    pub source_machine: Option<String>,
    /// URL of an object in a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_object: Option<String>,
    /// The command, word by word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

/// `POST /v1/tokens/authorize`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorizeToken {
    /// The value of an `Authorization` header.
    pub header: String,
    /// What it is to permit.
    pub access: TokenAccess,
}

/// An access that a token may permit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAccess {
    /// Letters of `rwcdC`: read, write, create, delete, control; `*` is all of them.
    pub action: String,
    /// Slug of the organization.
    #[serde(default)]
    pub org_slug: Option<String>,
    /// Name of the app.
    #[serde(default)]
    pub app_name: Option<String>,
    /// Id of the machine; its app and organization need not be given.
    #[serde(default)]
    pub machine_id: Option<String>,
    /// Id of the volume.
    #[serde(default)]
    pub volume_id: Option<String>,
    /// The command that is run, word by word.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Part of the app, such as `images`.
    #[serde(default)]
    pub app_feature: Option<String>,
    /// Part of the machine, such as `metadata`.
    #[serde(default)]
    pub machine_feature: Option<String>,
    /// Part of the organization, such as `membership`.
    #[serde(default)]
    pub org_feature: Option<String>,
    /// Name of a GraphQL mutation.
    #[serde(default)]
    pub mutation: Option<String>,
    /// URL of an object in a store.
    #[serde(default)]
    pub storage_object: Option<String>,
    /// Id of the machine that the request comes out of.
    #[serde(default)]
    pub source_machine: Option<String>,
}

/// `POST /v1/tokens/oidc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateOidcToken {
    /// The audience; that of the settings if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Claims that AWS is to take as tags of the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aws_principal_tags: Vec<String>,
    /// The app of the machine, if the call does not come out of it; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// The machine, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
}
