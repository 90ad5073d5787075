//! Logins of clients, below `/api/v1`, as flyctl makes them.
//! Its public schema is that of the client, <https://pkg.go.dev/github.com/superfly/fly-go>.

use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/cli_sessions`: a client begins a login that a page completes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BeginLogin {
    /// Name of the client's machine, which the page shows.
    #[serde(default)]
    pub name: String,
    /// The client asks for a new account; there are none here, so it logs in.
    #[serde(default)]
    pub signup: bool,
    /// What the login is for.
    #[serde(default)]
    pub target: String,
    /// Challenge of a proof key (RFC 7636), which is not asked for.
    #[serde(default)]
    pub code_challenge: String,
    /// Its method.
    #[serde(default)]
    pub code_challenge_method: String,
    /// Port of the client for an answer of the browser, which is not used.
    #[serde(default)]
    pub redirect_port: u16,
    /// Sent back with such an answer.
    #[serde(default)]
    pub state: String,
}

/// A login that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BegunLogin {
    /// The client asks for the token with it.
    pub id: String,
    /// The page that the user opens.
    pub auth_url: String,
}

/// `GET /api/v1/cli_sessions/{id}`: the token, once the page has been completed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CompletedLogin {
    /// As it was asked for.
    pub id: String,
    /// A token of the platform.
    pub access_token: Secret,
}

/// `POST /api/v1/sessions`: a login with an e-mail address and a password, which is a token here.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PasswordLogin {
    /// All of it.
    pub data: LoginData<Password>,
}

/// The token of such a login.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PasswordLoggedIn {
    /// All of it.
    pub data: LoginData<GivenToken>,
}

/// The form of a document of this service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoginData<T> {
    /// Contents.
    pub attributes: T,
}

/// What a user is known by.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Password {
    /// Not used: the token is enough.
    #[serde(default)]
    pub email: String,
    /// A token of the platform.
    pub password: Secret,
    /// Not used: there are no one-time passwords.
    #[serde(default)]
    pub otp: String,
}

/// A token that is given to a client.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GivenToken {
    /// A token of the platform.
    pub access_token: Secret,
}
