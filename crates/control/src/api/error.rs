//! Every failure as the answer that clients of the platform know (R009).

use crate::ports::StoreError;
use crate::rules::{Complaint, Refusal};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use wire::machines::ErrorBody;
use wire::worker::HostError;

/// A failure and its answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: StatusCode,
    /// `unknown`, `insufficient_capacity` or `name_taken`.
    pub(crate) status: &'static str,
    pub(crate) error: String,
    pub(crate) hint: Option<String>,
}

impl ApiError {
    pub(crate) fn new(code: StatusCode, error: impl Into<String>) -> Self {
        Self { code, status: "unknown", error: error.into(), hint: None }
    }

    pub(crate) fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(crate) fn internal(error: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    pub(crate) fn unsupported(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported yet"))
    }

    /// Byte for byte what clients match (R010).
    pub(crate) fn no_app(app: &str) -> Self {
        let app: String = app.chars().take(80).collect();
        Self::not_found(format!("Could not find App \"{app}\""))
            .hint("`GET /v1/apps` lists the apps of this platform")
    }

    pub(crate) fn no_machine(app: &str, machine: &str) -> Self {
        let machine: String = machine.chars().take(80).collect();
        Self::not_found(format!("machine not found: app {app:?} has no machine {machine:?}"))
    }

    /// The text is the one that clients match (R010).
    pub(crate) fn name_taken(detail: &str) -> Self {
        let text = "Validation failed: Name has already been taken";
        let error = if detail.is_empty() { text.into() } else { format!("{text}: {detail}") };
        let code = StatusCode::UNPROCESSABLE_ENTITY;
        Self { status: "name_taken", ..Self::new(code, error) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// 400 if a rule is broken; 422 if all of it is right but cannot be done.
    pub(crate) fn complaints(complaints: &[Complaint]) -> Self {
        let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        let unsupported = complaints.iter().all(|complaint| complaint.unsupported);
        let code =
            if unsupported { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Self::new(code, lines.join("; "))
    }
}

impl From<HostError> for ApiError {
    fn from(err: HostError) -> Self {
        let (code, text) = match err {
            HostError::NotFound(text) => (StatusCode::NOT_FOUND, text),
            HostError::Conflict(text) => (StatusCode::CONFLICT, text),
            HostError::Stale(text) => (StatusCode::PRECONDITION_FAILED, text),
            HostError::Invalid(text) => (StatusCode::BAD_REQUEST, text),
            HostError::NoCapacity(text) => return no_capacity(text),
            HostError::Timeout(text) => (StatusCode::REQUEST_TIMEOUT, text),
            HostError::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        };
        Self::new(code, text)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        no_capacity(refusal.to_string())
    }
}

/// Status of a refused placement.
pub(super) const NO_CAPACITY: &str = "insufficient_capacity";

fn no_capacity(text: String) -> ApiError {
    // Clients look for these words (R010).
    const WORDS: &str = "could not reserve resource for machine";
    let error = if text.contains(WORDS) { text } else { format!("{WORDS}: {text}") };
    let code = StatusCode::UNPROCESSABLE_ENTITY;
    ApiError { status: NO_CAPACITY, ..ApiError::new(code, error) }
        .hint("stop or destroy machines, ask for less memory, or name another region")
}

impl From<StoreError> for ApiError {
    fn from(err: StoreError) -> Self {
        let why = rt::chain(&err);
        tracing::error!(error = why, "global store failed");
        Self::internal(why)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.code.is_server_error() && self.code != StatusCode::NOT_IMPLEMENTED {
            tracing::error!(code = self.code.as_u16(), error = self.error, "request failed");
        }
        let body = ErrorBody { error: self.error, status: self.status.into(), hint: self.hint };
        (self.code, Json(body)).into_response()
    }
}
