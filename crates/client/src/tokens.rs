//! Tokens.

use crate::{Client, Error, SHORT};
use reqwest::Method;
use wire::tokens::{CreateToken, CreatedToken, CurrentTokens, TokenList};

impl Client {
    /// The tokens of this client.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn current_tokens(&self) -> Result<CurrentTokens, Error> {
        self.json(self.call(Method::GET, &["v1", "tokens", "current"]).within(SHORT)).await
    }

    /// Tokens of an organization.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn org_tokens(&self, org: &str) -> Result<TokenList, Error> {
        self.json(self.call(Method::GET, &["v1", "orgs", org, "tokens"]).within(SHORT)).await
    }

    /// Tokens of an app.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn app_tokens(&self, app: &str) -> Result<TokenList, Error> {
        self.json(self.call(Method::GET, &["v1", "apps", app, "tokens"]).within(SHORT)).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_token(&self, org: &str, ask: &CreateToken) -> Result<CreatedToken, Error> {
        let call = self.call(Method::POST, &["v1", "orgs", org, "tokens"]);
        self.json(call.within(SHORT).body(ask)).await
    }

    /// Revokes a token of an organization.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_org_token(&self, org: &str, id: &str) -> Result<(), Error> {
        self.done(self.call(Method::DELETE, &["v1", "orgs", org, "tokens", id]).within(SHORT)).await
    }

    /// Revokes a token of an app.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_app_token(&self, app: &str, id: &str) -> Result<(), Error> {
        self.done(self.call(Method::DELETE, &["v1", "apps", app, "tokens", id]).within(SHORT)).await
    }
}
