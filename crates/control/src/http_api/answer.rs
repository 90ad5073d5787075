//! Every failure as the answer that clients of the platform know, `{error, status}`, with what
//! the error catalogue has of it.

use crate::{Entry, Error, Kind};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use wire::machines::ErrorBody;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = code(self.kind);
        let body = error_body(self);
        if code.is_server_error() && code != StatusCode::NOT_IMPLEMENTED {
            tracing::error!(code = code.as_u16(), error = body.error, "request failed");
        }
        (code, Json(body)).into_response()
    }
}

/// The status of a failure's answer.
pub(super) fn status_of(err: &Error) -> StatusCode {
    code(err.kind)
}

/// The body of a failure's answer.
pub(super) fn error_body(err: Error) -> ErrorBody {
    let Entry { code, status, remedy, .. } = err.kind.entry();
    ErrorBody {
        error: err.to_string(),
        status: status.into(),
        code: Some(code.into()),
        docs: Some(format!("/docs#error-{code}")),
        field: err.field,
        hint: Some(err.hint.unwrap_or_else(|| remedy.into())),
    }
}

/// The answer to a request that a library has refused: with the entry of the catalogue that has
/// the same status, if there is one.
pub(super) fn of_library(status: StatusCode, error: String) -> Response {
    let kind = Kind::ALL.into_iter().find(|kind| kind.entry().http == status.as_u16());
    let body = match kind {
        Some(kind) => error_body(Error::new(kind, error)),
        None => ErrorBody::unknown(error),
    };
    (status, Json(body)).into_response()
}

fn code(kind: Kind) -> StatusCode {
    StatusCode::from_u16(kind.entry().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A body that is larger than allowed.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"))
}
