//! Requests and answers: URL, token, deadline, error body.

use crate::{CONNECT, Error};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::machines::ErrorBody;

/// An event of a client beside the results of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The server has accepted something that it does not act on, or that may
    /// not be what was meant (header `updraft-warning`).
    Warning(&'a str),
    /// A call was answered, well or not.
    Answered {
        /// Method and path.
        call: &'a str,
        /// HTTP status code.
        status: u16,
        /// `fly-request-id` of the answer.
        request_id: Option<&'a str>,
        /// From sending to the head of the answer.
        took: Duration,
    },
}

/// Called with each notice of a client, as it happens.
pub type Observer = Arc<dyn Fn(Notice<'_>) + Send + Sync>;

/// A client of one API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    observer: Option<Observer>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the token.
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// One call before it is sent: what it is, for errors, and how long it may take.
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) request: RequestBuilder,
}

impl Client {
    /// A client of the API at `base`, such as `http://127.0.0.1:4280`. Nothing
    /// is sent yet. A token may carry its scheme, such as `Bearer`.
    ///
    /// # Errors
    /// [`Error::BadUrl`].
    pub fn new(base: &str, token: Option<&str>) -> Result<Self, Error> {
        let bad = |why: String| Error::BadUrl { url: base.to_owned(), why };
        let url = Url::parse(base).map_err(|err| bad(err.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("it must begin with http:// or https://".to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("updraft/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            // A proxy in the environment cannot reach our own loopback.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|err| bad(err.to_string()))?;
        Ok(Self { http, base: url, token: token.map(str::to_owned), observer: None })
    }

    /// Calls `observer` for each answer and each warning.
    #[must_use]
    pub fn with_observer(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Base URL of the API.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A call to a path given in segments, which are escaped here.
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let name = format!("{method} {}", url.path());
        let request = self.request(method, url, true);
        Call { name, request }
    }

    /// Base URL of the API.
    pub(crate) fn url(&self) -> &Url {
        &self.base
    }

    /// A request to any URL below the API, with the token or without.
    pub(crate) fn request(&self, method: Method, url: Url, with_token: bool) -> RequestBuilder {
        let request = self.http.request(method, url);
        match self.token.as_deref().filter(|_| with_token) {
            Some(token) => {
                let scheme = if token.contains(' ') { "" } else { "Bearer " };
                request.header("authorization", format!("{scheme}{token}"))
            }
            None => request,
        }
    }

    /// Sends a call; an error status is an answer.
    pub(crate) async fn send_any(&self, call: Call) -> Result<Response, Error> {
        let Call { name, request } = call;
        let begun = Instant::now();
        let sent = request.send().await;
        let answer = sent.map_err(|err| Error::transport(self.base(), &name, err))?;
        self.observe(&name, &answer, begun.elapsed());
        Ok(answer)
    }

    /// Sends a call; an error status becomes [`Error::Api`].
    pub(crate) async fn send(&self, call: Call) -> Result<Response, Error> {
        let answer = self.send_any(call).await?;
        if answer.status().is_success() || answer.status().as_u16() == 101 {
            return Ok(answer);
        }
        Err(refusal(answer).await)
    }

    fn observe(&self, call: &str, answer: &Response, took: Duration) {
        let Some(observer) = &self.observer else { return };
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let request_id = headers.get("fly-request-id").and_then(|id| id.to_str().ok());
        observer(Notice::Answered { call, status, request_id, took });
        for warning in headers.get_all("updraft-warning").iter().take(WARNINGS) {
            if let Ok(text) = warning.to_str() {
                observer(Notice::Warning(text));
            }
        }
    }

    /// Sends a call and reads its JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let name = call.name.clone();
        let answer = self.send(call).await?;
        let bytes = answer.bytes().await;
        let bytes = bytes.map_err(|err| Error::transport(self.base(), &name, err))?;
        serde_json::from_slice(&bytes).map_err(|err| Error::answer(&name, err))
    }

    /// Sends a call whose answer has no content of interest.
    pub(crate) async fn done(&self, call: Call) -> Result<(), Error> {
        self.send(call).await.map(drop)
    }
}

impl Call {
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.request = self.request.timeout(limit);
        self
    }

    pub(crate) fn query(mut self, pairs: &[(&str, String)]) -> Self {
        self.request = self.request.query(pairs);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn body<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        self.request = self.request.json(body);
        self
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Most warnings of one answer that are passed on.
const WARNINGS: usize = 32;
/// Most bytes of an error body that are looked at.
const ERROR_BODY: usize = 64 * 1024;

async fn refusal(mut answer: Response) -> Error {
    let status = answer.status();
    let id = answer.headers().get("fly-request-id");
    let request_id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ERROR_BODY {
            break;
        }
    }
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        // Not our error shape: a proxy in between, or no Updraft at all.
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).trim().to_owned();
        let reason = status.canonical_reason().unwrap_or("unknown status");
        let sep = if text.is_empty() { "" } else { ": " };
        let error = format!("HTTP {} {reason}{sep}{text}", status.as_u16());
        ErrorBody::unknown(error)
    });
    Error::Api { status: status.as_u16(), body: Box::new(body), request_id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_the_table() {
        let base = |text| Client::new(text, None).map(|c| c.base().to_owned());
        assert_eq!(base("http://127.0.0.1:4280/").ok().as_deref(), Some("http://127.0.0.1:4280"));
        assert_eq!(base("https://x.example/p").ok().as_deref(), Some("https://x.example/p"));
        for bad in ["", "x", "127.0.0.1:4280", "ftp://x", "unix:/x"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_escaped_and_the_token_is_not_shown() {
        let client = Client::new("http://[::1]:1/under", Some("secret")).unwrap();
        let call = client.call(Method::GET, &["v1", "apps", "a/../b?c", "machines"]);
        assert_eq!(call.name, "GET /under/v1/apps/a%2F..%2Fb%3Fc/machines");
        assert!(!format!("{client:?}").contains("secret"));
        let header = call.request.build().unwrap().headers()["authorization"].clone();
        assert_eq!(header, "Bearer secret");
    }

    #[test]
    fn loopback_is_asked_without_a_proxy() {
        for (url, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1:1", false),
            ("https://x.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
