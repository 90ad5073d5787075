//! Requests to one repository of a registry.
//!
//! Everything that is kept in memory has a limit: documents, tokens, messages of
//! errors. A registry may be hostile.

use crate::config::settings::OciConfig;
use crate::error::Error;
use crate::reference::{ImageName, is_loopback};
use crate::registry::auth::Auth;
use crate::registry::response::{self, bounded, interrupted};
use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use std::time::Duration;
use worker::ports::{ImageError, PortError};

const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*;q=0.1";

/// Redirects that are followed in a row.
const MAX_REDIRECTS: usize = 10;

/// An HTTP client for one repository.
pub(crate) struct Http {
    client: Client,
    name: ImageName,
    /// The URL of the repository, with a slash at the end.
    base: String,
    auth: Auth,
}

/// The refusal of a registry at a loopback address: services there often trust
/// every client that can connect.
fn refuse_loopback(name: &ImageName) -> ImageError {
    ImageError::BadReference {
        reference: name.canonical(),
        problem: "its registry is at a loopback address of the host, which is not asked unless \
                  the host sets images.allow_loopback_registry"
            .into(),
    }
}

/// Follows up to ten redirects: over TLS to any address but those of loopback,
/// from a `local` registry also to loopback. Over plain HTTP only there.
fn redirects(local: bool) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        match may_follow(attempt.url(), local) {
            true => attempt.follow(),
            false => attempt.error("the redirect leads to plain HTTP or to a loopback address"),
        }
    })
}

fn may_follow(url: &Url, local: bool) -> bool {
    let loopback = url.host_str().is_some_and(is_loopback);
    if loopback { local } else { url.scheme() == "https" }
}

impl Http {
    /// A client for the repository of `name`, with the login for its registry.
    pub(crate) fn new(name: &ImageName, config: &OciConfig) -> Result<Self, ImageError> {
        let local = name.is_loopback();
        if local && !config.allow_loopback_registry {
            return Err(refuse_loopback(name));
        }
        let client = Client::builder()
            .read_timeout(config.read_timeout)
            .connect_timeout(config.read_timeout.min(Duration::from_secs(10)))
            .user_agent(concat!("updraft/", env!("CARGO_PKG_VERSION")))
            // Applies to redirects and token servers as well.
            .https_only(!local)
            .redirect(redirects(local))
            .build()
            .map_err(|err| PortError::new("set up a registry client", err))?;
        let scheme = if local { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", name.host(), name.repository());
        let auth = Auth::new(name.clone(), config.credentials.get(name.registry()).cloned());
        Ok(Self { client, name: name.clone(), base, auth })
    }

    /// The response to a request for `path`, from the byte `from` on.
    pub(crate) async fn get(
        &self,
        path: &str,
        from: u64,
        attempted: &str,
    ) -> Result<Response, ImageError> {
        let attempted = format!("{attempted} of {}", self.name.canonical());
        let mut authenticated = false;
        loop {
            let mut request =
                self.client.get(format!("{}{path}", self.base)).header(ACCEPT, ACCEPTED);
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            // The client removes it when it follows a redirect to another host.
            if let Some(authorization) = self.auth.header() {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|err| interrupted(&attempted, err))?;
            if response.status().is_success() {
                return Ok(response);
            }
            if response.status() == StatusCode::UNAUTHORIZED && !authenticated {
                authenticated = true;
                self.auth.authenticate(&self.client, &response, &attempted).await?;
                continue;
            }
            return Err(response::error(&self.name, response, &attempted).await);
        }
    }

    /// A document. One of more than `limit` bytes is refused without reading it
    /// to its end.
    pub(crate) async fn document(
        &self,
        path: &str,
        limit: u64,
        what: &str,
    ) -> Result<Vec<u8>, ImageError> {
        let attempted = format!("fetch the {what}");
        let response = self.get(path, 0, &attempted).await?;
        let body = bounded(response, limit).await.map_err(|err| interrupted(&attempted, err))?;
        body.ok_or_else(|| {
            let problem = format!("its {what} exceeds the limit of {limit} bytes");
            Error::refused(problem).for_image(&self.name.canonical())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_neither_to_plain_http_nor_to_loopback() {
        for (url, from_elsewhere, from_loopback) in [
            ("https://cdn.example/layer", true, true),
            ("http://cdn.example/layer", false, false),
            ("http://127.0.0.1:5000/layer", false, true),
            ("https://[::1]/layer", false, true),
            ("https://[::ffff:127.0.0.1]/layer", false, true),
            ("https://0.0.0.0/layer", false, true),
            ("http://169.254.169.254/latest", false, false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(may_follow(&url, false), from_elsewhere, "{url}");
            assert_eq!(may_follow(&url, true), from_loopback, "{url}");
        }
    }
}
