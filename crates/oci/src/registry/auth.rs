//! Authentication to a registry: HTTP Basic, or a bearer token
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use crate::config::credentials::Login;
use crate::error::Error;
use crate::reference::{ImageName, is_loopback};
use crate::registry::response::{bounded, denied, interrupted, is_transient, unexpected};
use base64::Engine as _;
use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Response, Url};
use std::sync::{Mutex, PoisonError};
use worker::ports::{ImageError, PortError};

/// The longest response of a token server.
const TOKEN_BYTES: u64 = 256 << 10;

/// The authentication for one repository.
pub(crate) struct Auth {
    name: ImageName,
    login: Option<Login>,
    authorization: Mutex<Option<HeaderValue>>,
}

#[derive(serde::Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Auth {
    /// Authenticates to the repository of `name` with `login`.
    pub(crate) fn new(name: ImageName, login: Option<Login>) -> Self {
        Self { name, login, authorization: Mutex::default() }
    }

    /// The `Authorization` header, once `authenticate` has succeeded.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers the challenge of a 401 response.
    pub(crate) async fn authenticate(
        &self,
        client: &Client,
        challenged: &Response,
        attempted: &str,
    ) -> Result<(), ImageError> {
        let mut basic = false;
        for header in challenged.headers().get_all(WWW_AUTHENTICATE) {
            let text = header.to_str().unwrap_or_default();
            for challenge in ChallengeParser::new(text).map_while(Result::ok) {
                basic |= challenge.scheme.eq_ignore_ascii_case("basic");
                if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                    continue;
                }
                let param = |wanted: &str| {
                    let found =
                        challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
                    found.map(|(_, value)| value.to_unescaped())
                };
                let realm = param("realm").and_then(|realm| Url::parse(&realm).ok());
                let realm = realm.filter(|realm| self.may_ask(realm));
                let realm = realm.ok_or_else(|| denied(&self.name))?;
                let token = self.token(client, realm, param("service"), attempted).await?;
                return self.set(format!("Bearer {token}"));
            }
        }
        match &self.login {
            Some(login) if basic => {
                let text = format!("{}:{}", login.user, login.password);
                let text = base64::engine::general_purpose::STANDARD.encode(text);
                self.set(format!("Basic {text}"))
            }
            _ => Err(denied(&self.name)),
        }
    }

    /// Whether a token server that the registry names may be asked: one at a
    /// loopback address only if the registry is at one, too.
    fn may_ask(&self, realm: &Url) -> bool {
        let loopback = realm.host_str().is_some_and(is_loopback);
        may_receive_login(realm) && (!loopback || self.name.is_loopback())
    }

    fn set(&self, authorization: String) -> Result<(), ImageError> {
        let mut value = HeaderValue::try_from(authorization).map_err(|_| denied(&self.name))?;
        value.set_sensitive(true);
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// Fetches a token to pull from the repository.
    async fn token(
        &self,
        client: &Client,
        realm: Url,
        service: Option<String>,
        attempted: &str,
    ) -> Result<String, ImageError> {
        let attempted = format!("{attempted}: get a token");
        let scope = format!("repository:{}:pull", self.name.repository());
        let mut request = client.get(realm).query(&[("scope", scope)]);
        if let Some(service) = service {
            request = request.query(&[("service", service)]);
        }
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(&login.password));
        }
        let response = request.send().await.map_err(|err| interrupted(&attempted, err))?;
        let status = response.status();
        if is_transient(status) {
            return Err(ImageError::Failed(unexpected(&attempted, status, "").transient()));
        }
        if !status.is_success() {
            return Err(denied(&self.name));
        }
        let body =
            bounded(response, TOKEN_BYTES).await.map_err(|err| interrupted(&attempted, err))?;
        let body = body.ok_or_else(|| {
            let problem = format!("the token exceeds the limit of {TOKEN_BYTES} bytes");
            Error::refused(problem).for_image(&self.name.canonical())
        })?;
        let token: Token =
            serde_json::from_slice(&body).map_err(|err| PortError::new(attempted, err))?;
        Ok(if token.token.is_empty() { token.access_token } else { token.token })
    }
}

/// Whether a token server may receive the login: over TLS, or on this host.
fn may_receive_login(realm: &Url) -> bool {
    realm.scheme() == "https" || realm.host_str().is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_not_sent_in_the_clear() {
        for (realm, may) in [
            ("https://auth.example/token", true),
            ("http://127.0.0.1:5000/token", true),
            ("http://[::1]/token", true),
            ("http://localhost/token", true),
            ("http://auth.example/token", false),
            ("ftp://auth.example/token", false),
        ] {
            assert_eq!(may_receive_login(&Url::parse(realm).unwrap()), may, "{realm}");
        }
    }
}
