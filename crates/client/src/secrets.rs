//! Secrets of an app.

use crate::{Client, Error, SHORT};
use reqwest::Method;
use wire::secrets::{AppSecrets, ChangeSecrets};

impl Client {
    /// Secrets of an app, without their values.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn secrets(&self, app: &str) -> Result<AppSecrets, Error> {
        self.json(self.call(Method::GET, &["v1", "apps", app, "secrets"]).within(SHORT)).await
    }

    /// Sets and removes secrets of an app; machines that run keep what they have.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_secrets(
        &self,
        app: &str,
        change: &ChangeSecrets,
    ) -> Result<AppSecrets, Error> {
        let call = self.call(Method::POST, &["v1", "apps", app, "secrets"]);
        self.json(call.within(SHORT).body(change)).await
    }
}
