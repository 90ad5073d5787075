//! What one connection out of a guest, and one request on it, may take up.

use crate::http_api::{Authenticated, too_large};
use crate::{Error, Kind};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;
use tokio::time::timeout;

/// What one connection may take up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of the head of a request.
    pub(super) head: usize,
    /// Bytes of the body of a request.
    pub(super) body: usize,
    /// Time for a head, from the end of the request before: an idle connection
    /// is closed after that.
    pub(super) idle: Duration,
    /// Time until the head of the answer.
    pub(super) answer: Duration,
    /// The same with a token: the API's own waits take up to a minute.
    pub(super) answer_to_token: Duration,
    /// Life of a connection; whatever is under way then is cut off.
    pub(super) life: Duration,
}

pub(super) const LIMITS: Limits = Limits {
    head: 16 * 1024,
    body: 16 * 1024,
    idle: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    answer_to_token: Duration::from_secs(75),
    life: Duration::from_secs(600),
};

/// Reads the body within its limits, and answers in time.
pub(super) async fn enforce(
    State(limits): State<Limits>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(header::UPGRADE) {
        return Error::not_implemented("a WebSocket over the socket of a machine is")
            .into_response();
    }
    // An open connection holds up the suspend of its own machine.
    let ends = request.uri().path().ends_with("/suspend");
    let with_token = request.extensions().get::<Authenticated>().is_some();
    let limit = if with_token { limits.answer_to_token } else { limits.answer };
    let answer = async {
        let (parts, body) = request.into_parts();
        match Limited::new(body, limits.body).collect().await {
            Ok(body) => next.run(Request::from_parts(parts, Body::from(body.to_bytes()))).await,
            Err(err) if err.is::<LengthLimitError>() => too_large(limits.body).into_response(),
            Err(err) => Error::new(Kind::Invalid, format!("read the body: {err}")).into_response(),
        }
    };
    let mut response = timeout(limit, answer).await.unwrap_or_else(|_| {
        let why = format!("there was no answer within {limit:?}");
        Error::new(Kind::Timeout, why).into_response()
    });
    if ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
