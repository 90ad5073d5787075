//! Requests to one repository of a registry.
//!
//! Everything that is kept in memory has a limit: documents, tokens, messages of
//! errors. A registry may be hostile.

use crate::config::settings::OciConfig;
use crate::error::Error;
use crate::reference::ImageName;
use crate::registry::auth::Auth;
use crate::registry::response::{self, bounded, interrupted};
use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE};
use reqwest::{Client, Response, StatusCode};
use std::time::Duration;
use worker::ports::{ImageError, PortError};

const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*;q=0.1";

/// An HTTP client for one repository.
pub(crate) struct Http {
    client: Client,
    name: ImageName,
    /// The URL of the repository, with a slash at the end.
    base: String,
    auth: Auth,
}

impl Http {
    /// A client for the repository of `name`, with the login for its registry.
    pub(crate) fn new(name: &ImageName, config: &OciConfig) -> Result<Self, ImageError> {
        let local = name.is_loopback();
        let client = Client::builder()
            .read_timeout(config.read_timeout)
            .connect_timeout(config.read_timeout.min(Duration::from_secs(10)))
            .user_agent(concat!("updraft/", env!("CARGO_PKG_VERSION")))
            // Applies to redirects and token servers as well.
            .https_only(!local)
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
