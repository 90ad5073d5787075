//! Every failure as the answer that clients of the platform know, `{error, status}`, with what
//! the error catalogue has of it.

use crate::{Entry, Error, Kind};
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
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

/// A list that may be long, as JSON. Its body is written into one buffer, which growing by
/// doubling would copy several times.
pub(super) struct JsonList<T>(pub(super) Vec<T>);

impl<T: Serialize> IntoResponse for JsonList<T> {
    fn into_response(self) -> Response {
        match body_of(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(err) => Error::internal(format!("write the answer: {err}")).into_response(),
        }
    }
}

fn body_of<T: Serialize>(list: &[T]) -> serde_json::Result<Vec<u8>> {
    let first = list.first().map(serde_json::to_vec).transpose()?.unwrap_or_default();
    // As if all were like the first, and an eighth more.
    let mut body = Vec::with_capacity((first.len() + 1) * list.len() * 9 / 8 + 2);
    serde_json::to_writer(&mut body, list)?;
    Ok(body)
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
