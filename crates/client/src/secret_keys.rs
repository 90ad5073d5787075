//! Secret keys of an app.

use crate::transport::Call;
use crate::{Client, Error, SHORT};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::secret_keys::{
    Decrypt, Decrypted, Encrypt, Encrypted, NewSecretKey, SecretKeyChanged, SecretKeys, Sign,
    Signed, Verify,
};

impl Client {
    fn of_keys(&self, method: Method, app: &str, rest: &[&str]) -> Call {
        let path = [&["v1", "apps", app, "secretkeys"], rest].concat();
        self.call(method, &path).within(SHORT)
    }

    async fn with_key<T: DeserializeOwned>(
        &self,
        (app, name): (&str, &str),
        verb: &str,
        ask: &impl Serialize,
    ) -> Result<T, Error> {
        self.json(self.of_keys(Method::POST, app, &[name, verb]).body(ask)).await
    }

    /// The secret keys of an app, without their secret parts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn secret_keys(&self, app: &str) -> Result<SecretKeys, Error> {
        self.json(self.of_keys(Method::GET, app, &[])).await
    }

    /// Sets a key, or has it generated if `new` has no value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_secret_key(
        &self,
        app: &str,
        name: &str,
        new: &NewSecretKey,
    ) -> Result<SecretKeyChanged, Error> {
        match new.value {
            Some(_) => self.json(self.of_keys(Method::POST, app, &[name]).body(new)).await,
            None => self.with_key((app, name), "generate", new).await,
        }
    }

    /// Removes a key: what was encrypted with it cannot be decrypted any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_secret_key(&self, app: &str, name: &str) -> Result<(), Error> {
        self.done(self.of_keys(Method::DELETE, app, &[name])).await
    }

    /// Signs a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sign(&self, app: &str, name: &str, ask: &Sign) -> Result<Signed, Error> {
        self.with_key((app, name), "sign", ask).await
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// See [`Error`]; 400 if it is not that of the message.
    pub async fn verify(&self, app: &str, name: &str, ask: &Verify) -> Result<(), Error> {
        self.done(self.of_keys(Method::POST, app, &[name, "verify"]).body(ask)).await
    }

    /// Encrypts a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn encrypt(&self, app: &str, name: &str, ask: &Encrypt) -> Result<Encrypted, Error> {
        self.with_key((app, name), "encrypt", ask).await
    }

    /// Decrypts a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn decrypt(&self, app: &str, name: &str, ask: &Decrypt) -> Result<Decrypted, Error> {
        self.with_key((app, name), "decrypt", ask).await
    }
}
