//! Responses of registries: bodies within their limits, and errors.

use crate::reference::ImageName;
use reqwest::{Response, StatusCode};
use worker::ports::{ImageError, PortError};

/// The longest body of an error that is read.
const ERROR_BYTES: u64 = 64 << 10;
/// Error codes of the OCI distribution specification (and `NOT_FOUND`, which
/// some registries send) for images that do not exist or may not be seen.
const ABSENT: [&str; 6] = [
    "MANIFEST_UNKNOWN",
    "NAME_UNKNOWN",
    "NOT_FOUND",
    "BLOB_UNKNOWN",
    "MANIFEST_BLOB_UNKNOWN",
    "DENIED",
];

/// The JSON body of an error.
#[derive(serde::Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Default, serde::Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The body, or `None` if it has more than `limit` bytes.
pub(crate) async fn bounded(
    mut response: Response,
    limit: u64,
) -> reqwest::Result<Option<Vec<u8>>> {
    if response.content_length().is_some_and(|promised| promised > limit) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The error of a response without success.
pub(crate) async fn error(name: &ImageName, response: Response, attempted: &str) -> ImageError {
    let status = response.status();
    let body = bounded(response, ERROR_BYTES).await.ok().flatten().unwrap_or_default();
    let parsed = serde_json::from_slice::<ErrorBody>(&body).ok();
    let first = parsed.and_then(|body| body.errors.into_iter().next()).unwrap_or_default();
    if status == StatusCode::UNAUTHORIZED {
        return denied(name);
    }
    if ABSENT.contains(&first.code.as_str()) || status == StatusCode::NOT_FOUND {
        return not_found(name, &printable(&first.message));
    }
    if status == StatusCode::FORBIDDEN {
        return denied(name);
    }
    let error = unexpected(attempted, status, &first.message);
    let transient = is_transient(status) || first.code == "TOOMANYREQUESTS";
    ImageError::Failed(if transient { error.transient() } else { error })
}

/// The registry denies access to the image.
pub(crate) fn denied(name: &ImageName) -> ImageError {
    not_found(name, "the registry denies access")
}

fn not_found(name: &ImageName, detail: &str) -> ImageError {
    ImageError::NotFound { reference: name.canonical(), detail: format!(": {detail}") }
}

/// Whether the same request may succeed later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500..)
}

/// The error of a status that nothing else explains.
pub(crate) fn unexpected(attempted: &str, status: StatusCode, message: &str) -> PortError {
    let message = match message {
        "" => String::new(),
        message => format!(": {}", printable(message)),
    };
    PortError::plain(format!("{attempted}: the registry answers {status}{message}"))
}

/// The error of a request or body that was interrupted. URLs are left out, since
/// they may be signed.
pub(crate) fn interrupted(attempted: &str, err: reqwest::Error) -> ImageError {
    let transient = !err.is_builder();
    let error = PortError::new(attempted, err.without_url());
    ImageError::Failed(if transient { error.transient() } else { error })
}

/// A message of a registry, shortened and on one line.
fn printable(message: &str) -> String {
    let text: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { "the registry has no such image".into() } else { text }
}
