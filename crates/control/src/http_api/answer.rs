//! Every failure as the answer that clients of the platform know:
//! `{error, status}` with a hint of our own.

use crate::{Error, Kind};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use wire::machines::ErrorBody;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (code, _) = code(self.kind);
        let body = error_body(self);
        if code.is_server_error() && code != StatusCode::NOT_IMPLEMENTED {
            tracing::error!(code = code.as_u16(), error = body.error, "request failed");
        }
        (code, Json(body)).into_response()
    }
}

/// The status of a failure's answer.
pub(super) fn status_of(err: &Error) -> StatusCode {
    code(err.kind).0
}

/// The body of a failure's answer.
pub(super) fn error_body(err: Error) -> ErrorBody {
    let (_, status) = code(err.kind);
    ErrorBody { error: err.to_string(), status: status.into(), hint: err.hint }
}

/// An error as JSON.
pub(super) fn body(
    code: StatusCode,
    status: &str,
    error: String,
    hint: Option<String>,
) -> Response {
    (code, Json(ErrorBody { error, status: status.into(), hint })).into_response()
}

/// HTTP's code, and the word that clients look for.
fn code(kind: Kind) -> (StatusCode, &'static str) {
    let code = match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::VersionMismatch => StatusCode::PRECONDITION_FAILED,
        Kind::NameTaken => return (StatusCode::UNPROCESSABLE_ENTITY, "name_taken"),
        Kind::NoCapacity => return (StatusCode::UNPROCESSABLE_ENTITY, "insufficient_capacity"),
        Kind::CommandNotFound => {
            return (StatusCode::UNPROCESSABLE_ENTITY, ErrorBody::COMMAND_NOT_FOUND);
        }
        Kind::CommandNotExecutable => {
            return (StatusCode::UNPROCESSABLE_ENTITY, ErrorBody::COMMAND_NOT_EXECUTABLE);
        }
        Kind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Timeout => StatusCode::REQUEST_TIMEOUT,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        // Not 408, after which a client may repeat its request by itself (RFC 9110, 15.5.9).
        Kind::InDoubt => StatusCode::GATEWAY_TIMEOUT,
        Kind::BadGateway => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, "unknown")
}

/// A body that is larger than allowed.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"))
}
