//! Requests to one registry: who we are to it, and what its answers mean.
//!
//! Everything that is kept in memory has a bound: documents, tokens, and the
//! words of an error. A registry may be anybody's.

use crate::config::{Login, OciConfig};
use crate::fault::Fault;
use crate::reference::{ImageName, is_loopback};
use http_auth::parser::ChallengeParser;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use worker::ports::{ImageError, PortError};

const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*;q=0.1";
/// Bytes of the answer of a token server.
const TOKEN_BYTES: u64 = 256 << 10;
/// Bytes of an error's body that are looked at.
const ERROR_BYTES: u64 = 64 << 10;

/// One repository of a registry.
pub(crate) struct Http {
    client: Client,
    name: ImageName,
    /// Of the repository, with a slash at the end.
    base: String,
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

#[derive(serde::Deserialize)]
struct Envelope {
    errors: Vec<Word>,
}

#[derive(Default, serde::Deserialize)]
struct Word {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Http {
    /// The repository of `name`, with our login there.
    pub(crate) fn new(name: &ImageName, config: &OciConfig) -> Result<Self, ImageError> {
        let local = name.is_loopback();
        let client = Client::builder()
            .read_timeout(config.read_timeout)
            .connect_timeout(config.read_timeout.min(Duration::from_secs(10)))
            .user_agent(concat!("updraft/", env!("CARGO_PKG_VERSION")))
            // Also for redirects and token servers.
            .https_only(!local)
            .build()
            .map_err(|err| PortError::new("set up a registry client", err))?;
        let scheme = if local { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", name.host(), name.repository());
        let login = config.credentials.get(name.registry()).cloned();
        Ok(Self { client, name: name.clone(), base, login, authorization: Mutex::default() })
    }

    /// The answer to a request for `path`, from an offset on.
    pub(crate) async fn get(
        &self,
        path: &str,
        from: u64,
        attempted: &str,
    ) -> Result<Response, ImageError> {
        let attempted = format!("{attempted} of {}", self.name.canonical());
        let mut introduced = false;
        loop {
            let mut request =
                self.client.get(format!("{}{path}", self.base)).header(ACCEPT, ACCEPTED);
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            // Redirects to another host go without it.
            if let Some(known) = self.authorization() {
                request = request.header(AUTHORIZATION, known);
            }
            let answer = request.send().await.map_err(|err| broken(&attempted, err))?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            if answer.status() == StatusCode::UNAUTHORIZED && !introduced {
                introduced = true;
                self.introduce(&answer, &attempted).await?;
                continue;
            }
            return Err(self.words(answer, &attempted).await);
        }
    }

    /// A document, whole; more than `limit` bytes are refused, and not read.
    pub(crate) async fn document(
        &self,
        path: &str,
        limit: u64,
        what: &str,
    ) -> Result<Vec<u8>, ImageError> {
        let attempted = format!("fetch the {what}");
        let answer = self.get(path, 0, &attempted).await?;
        let read = bounded(answer, limit).await.map_err(|err| broken(&attempted, err))?;
        read.ok_or_else(|| {
            let problem = format!("its {what} exceeds the limit of {limit} bytes");
            Fault::refused(problem).of(&self.name.canonical())
        })
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds out how the registry wants to know us.
    async fn introduce(&self, denied: &Response, attempted: &str) -> Result<(), ImageError> {
        let mut basic = false;
        for header in denied.headers().get_all(WWW_AUTHENTICATE) {
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
                let realm = realm.filter(may_see_login).ok_or_else(|| self.denied())?;
                let token = self.token(realm, param("service"), attempted).await?;
                return self.remember(format!("Bearer {token}"));
            }
        }
        match &self.login {
            Some(login) if basic => {
                use base64::Engine as _;
                let text = format!("{}:{}", login.user, login.password);
                let text = base64::engine::general_purpose::STANDARD.encode(text);
                self.remember(format!("Basic {text}"))
            }
            _ => Err(self.denied()),
        }
    }

    fn remember(&self, authorization: String) -> Result<(), ImageError> {
        let mut value = HeaderValue::try_from(authorization).map_err(|_| self.denied())?;
        value.set_sensitive(true);
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    async fn token(
        &self,
        realm: Url,
        service: Option<String>,
        attempted: &str,
    ) -> Result<String, ImageError> {
        let attempted = format!("{attempted}: get a token");
        let scope = format!("repository:{}:pull", self.name.repository());
        let mut request = self.client.get(realm).query(&[("scope", scope)]);
        if let Some(service) = service {
            request = request.query(&[("service", service)]);
        }
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(&login.password));
        }
        let answer = request.send().await.map_err(|err| broken(&attempted, err))?;
        let status = answer.status();
        if may_pass(status) {
            return Err(ImageError::Failed(unexpected(&attempted, status, "").transient()));
        }
        if !status.is_success() {
            return Err(self.denied());
        }
        let read = bounded(answer, TOKEN_BYTES).await.map_err(|err| broken(&attempted, err))?;
        let body = read.ok_or_else(|| {
            let problem = format!("the token exceeds the limit of {TOKEN_BYTES} bytes");
            Fault::refused(problem).of(&self.name.canonical())
        })?;
        let token: Token =
            serde_json::from_slice(&body).map_err(|err| PortError::new(attempted, err))?;
        Ok(if token.token.is_empty() { token.access_token } else { token.token })
    }

    fn missing(&self, detail: &str) -> ImageError {
        ImageError::NotFound { reference: self.name.canonical(), detail: format!(": {detail}") }
    }

    fn denied(&self) -> ImageError {
        self.missing("the registry denies access")
    }

    /// What an answer that is no success means.
    async fn words(&self, answer: Response, attempted: &str) -> ImageError {
        let status = answer.status();
        let body = bounded(answer, ERROR_BYTES).await.ok().flatten().unwrap_or_default();
        let said = serde_json::from_slice::<Envelope>(&body).ok();
        let said = said.and_then(|said| said.errors.into_iter().next()).unwrap_or_default();
        let absent = [
            "MANIFEST_UNKNOWN",
            "NAME_UNKNOWN",
            "NOT_FOUND",
            "BLOB_UNKNOWN",
            "MANIFEST_BLOB_UNKNOWN",
            "DENIED",
        ];
        if status == StatusCode::UNAUTHORIZED {
            return self.denied();
        }
        if absent.contains(&said.code.as_str()) || status == StatusCode::NOT_FOUND {
            return self.missing(&clean(&said.message));
        }
        if status == StatusCode::FORBIDDEN {
            return self.denied();
        }
        let error = unexpected(attempted, status, &said.message);
        let passes = may_pass(status) || said.code == "TOOMANYREQUESTS";
        ImageError::Failed(if passes { error.transient() } else { error })
    }
}

/// A whole body, or none if it has more than `limit` bytes.
async fn bounded(mut answer: Response, limit: u64) -> reqwest::Result<Option<Vec<u8>>> {
    if answer.content_length().is_some_and(|promised| promised > limit) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// A login goes encrypted, or does not leave this machine.
fn may_see_login(realm: &Url) -> bool {
    realm.scheme() == "https" || realm.host_str().is_some_and(is_loopback)
}

fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500..)
}

fn unexpected(attempted: &str, status: StatusCode, said: &str) -> PortError {
    let said = if said.is_empty() { String::new() } else { format!(": {}", clean(said)) };
    PortError::plain(format!("{attempted}: the registry answers {status}{said}"))
}

/// A request or a body that broke off. Addresses are left out: they may be
/// signed ones.
pub(crate) fn broken(attempted: &str, err: reqwest::Error) -> ImageError {
    let passes = !err.is_builder();
    let error = PortError::new(attempted, err.without_url());
    ImageError::Failed(if passes { error.transient() } else { error })
}

/// A foreign text, short and on one line.
fn clean(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { "the registry has no such thing".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_not_shown_in_the_clear() {
        for (realm, may) in [
            ("https://auth.example/token", true),
            ("http://127.0.0.1:5000/token", true),
            ("http://[::1]/token", true),
            ("http://localhost/token", true),
            ("http://auth.example/token", false),
            ("ftp://auth.example/token", false),
        ] {
            assert_eq!(may_see_login(&Url::parse(realm).unwrap()), may, "{realm}");
        }
    }
}
