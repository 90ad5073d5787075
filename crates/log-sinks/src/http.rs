//! Delivery by one POST of JSON.

use crate::settings::HttpTarget;
use camino::{Utf8Path, Utf8PathBuf};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use worker::ports::{PortError, SendError};

/// Longest time for a connection to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// What is read of an answer.
const ANSWER: usize = 64 << 10;
/// What is shown of it.
const SHOWN: usize = 300;

/// A receiver over HTTP.
pub(crate) struct Http {
    client: Client,
    url: Url,
    authorization_file: Option<Utf8PathBuf>,
}

impl Http {
    pub(crate) fn open(target: &HttpTarget) -> Result<Self, PortError> {
        if let Some(path) = &target.authorization_file {
            read_secret(path)?;
        }
        let headers: HeaderMap = target.headers.clone();
        let mut client = Client::builder()
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            .default_headers(headers)
            .user_agent(concat!("updraft/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &target.ca_file {
            let failed = |err| PortError::new(format!("read certificates of {path}"), err);
            let pem = std::fs::read(path).map_err(|err| failed(err.into()))?;
            let roots = Certificate::from_pem_bundle(&pem)
                .map_err(|err| failed(Box::<dyn std::error::Error + Send + Sync>::from(err)))?;
            client = client.tls_certs_only(roots);
        }
        let client = client.build();
        let client = client.map_err(|err| PortError::new("set up an HTTP client", err))?;
        let (url, authorization_file) = (target.url.clone(), target.authorization_file.clone());
        Ok(Self { client, url, authorization_file })
    }

    /// Sends JSON; the beginning of the answer, if it is a success.
    pub(crate) async fn post(&self, body: &serde_json::Value) -> Result<Vec<u8>, SendError> {
        let mut request = self.client.post(self.url.clone()).json(body);
        if let Some(path) = &self.authorization_file {
            // Read each time, so that it can be replaced while the daemon runs.
            let path = path.clone();
            let secret = tokio::task::spawn_blocking(move || read_secret(&path)).await;
            let secret = secret.map_err(|err| {
                SendError::Unavailable(PortError::new("read the file of the authorization", err))
            })?;
            request = request.header(AUTHORIZATION, secret.map_err(SendError::Unavailable)?);
        }
        let sent = request.send().await.map_err(|err| {
            // Its URL may have a key in its query.
            SendError::Unavailable(PortError::new("post log lines", err.without_url()))
        })?;
        let status = sent.status();
        let answer = read(sent).await;
        if status.is_success() {
            return Ok(answer);
        }
        let text = String::from_utf8_lossy(&answer);
        let text: String = text.trim().chars().take(SHOWN).collect();
        let problem = PortError::plain(format!("the receiver answers {status}: {text}"));
        Err(if is_final(status) {
            SendError::Refused(problem)
        } else {
            SendError::Unavailable(problem)
        })
    }
}

/// The request itself is wrong. Everything else may be mended: by a proxy in between, a
/// new token, or time.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

async fn read(mut answer: Response) -> Vec<u8> {
    let mut read = Vec::new();
    // An answer that breaks off has been decided by its status.
    while let Ok(Some(chunk)) = answer.chunk().await {
        read.extend_from_slice(&chunk);
        if read.len() >= ANSWER {
            read.truncate(ANSWER);
            break;
        }
    }
    read
}

fn read_secret(path: &Utf8Path) -> Result<HeaderValue, PortError> {
    let failed = |err: std::io::Error| PortError::new(format!("read {path}"), err);
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(PortError::plain(format!(
            "{path} may be used by everyone on this host, its mode is {:o}: run `chmod o= {path}`",
            mode & 0o777
        )));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    // Without the text: it is a secret.
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| PortError::plain(format!("{path} has no value of a header of HTTP")))?;
    value.set_sensitive(true);
    Ok(value)
}
