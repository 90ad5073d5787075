//! The API as a machine reaches it from within, over `/.fly/api` (R002, L021).
//!
//! The host passes each connection on as a stream. Who calls is known by the
//! stream's machine, never by what the guest says; the name in `Host` means
//! nothing. Without a token a machine may read and suspend itself; with one the
//! API is the same as everywhere, but for smaller bodies and no WebSockets.

use super::{Api, ApiError};
use crate::records::TokenRecord;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::id::MachineId;
use rt::Tasks;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// What one connection may take up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of the head of a request.
    head: usize,
    /// Bytes of the body of a request.
    body: usize,
    /// Time for a head, from the end of the request before: an idle connection
    /// ends after that.
    idle: Duration,
    /// Time until the head of the answer.
    answer: Duration,
    /// The same with a token: the API's own waits take up to a minute.
    answer_to_token: Duration,
    /// Life of a connection; whatever is under way then is cut off.
    life: Duration,
}

const LIMITS: Limits = Limits {
    head: 16 * 1024,
    body: 16 * 1024,
    idle: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    answer_to_token: Duration::from_secs(75),
    life: Duration::from_secs(600),
};

/// Time for the answer under way once the platform stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves the API to machines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GuestApi {
    router: Router,
    tasks: Tasks,
}

impl GuestApi {
    /// The guests' side of `api`.
    pub fn new(api: &Api) -> Self {
        Self { router: api.guest_router(LIMITS), tasks: api.world.tasks.clone() }
    }

    /// Serves one connection out of `machine` of `app`, in a task of its own,
    /// until either side closes it or its time is over.
    pub fn serve<Io>(&self, machine: MachineId, app: String, io: Io)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Only here, so that nothing from elsewhere passes for a machine.
        let router = self.router.clone().layer(Extension(FromMachine { app, machine }));
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move { connection(io, router, LIMITS, &tasks).await });
    }
}

async fn connection<Io>(io: Io, router: Router, limits: Limits, tasks: &Tasks)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(limits.head);
    // A client that has said all it has to say may still listen (`nc -U`).
    protocol.half_close(true);
    let served = protocol.serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = timeout(limits.life, served.as_mut()) => ended,
        () = tasks.stopping() => {
            served.as_mut().graceful_shutdown();
            timeout(FAREWELL, served).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(err)) => tracing::trace!(error = %err, "a connection of a machine ended"),
        Err(_) => tracing::trace!("a connection of a machine was cut off"),
    }
}

/// Mark of a request that came out of a machine.
#[derive(Clone, Debug)]
pub(super) struct FromMachine {
    app: String,
    machine: MachineId,
}

impl FromMachine {
    /// Whether it may be done without a token. Paths are compared as they
    /// were written: whatever is written otherwise is not allowed.
    pub(super) fn may(&self, request: &Request) -> Result<(), ApiError> {
        let own = format!("/v1/apps/{}/machines/{}", self.app, self.machine);
        let rest = request.uri().path().strip_prefix(&own);
        match (request.method(), rest) {
            (&Method::GET, Some("")) | (&Method::POST, Some("/suspend")) => Ok(()),
            // That there is no such path is no secret.
            _ if request.extensions().get::<MatchedPath>().is_none() => Ok(()),
            _ => {
                let why = format!(
                    "without a token a machine may only GET {own} and POST {own}/suspend, \
                     its own state and its own suspend"
                );
                let hint = "send the header `Authorization: Bearer <token>` for all else";
                Err(ApiError::new(StatusCode::FORBIDDEN, why).hint(hint))
            }
        }
    }
}

/// Reads the body and sees to it that there is an answer in time.
pub(super) async fn bound(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::UPGRADE) {
        return ApiError::unsupported("a WebSocket over the socket of a machine").into_response();
    }
    // What is open holds the suspend of its own machine up.
    let ends = request.uri().path().ends_with("/suspend");
    let with_token = request.extensions().get::<TokenRecord>().is_some();
    let limit = if with_token { limits.answer_to_token } else { limits.answer };
    let answer = async {
        let (parts, body) = request.into_parts();
        match Limited::new(body, limits.body).collect().await {
            Ok(body) => next.run(Request::from_parts(parts, Body::from(body.to_bytes()))).await,
            Err(err) if err.is::<LengthLimitError>() => {
                let why = format!("the body is larger than {} bytes", limits.body);
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, why).into_response()
            }
            Err(err) => ApiError::invalid(format!("read the body: {err}")).into_response(),
        }
    };
    let mut response = timeout(limit, answer).await.unwrap_or_else(|_| {
        let why = format!("there was no answer within {limit:?}");
        ApiError::new(StatusCode::REQUEST_TIMEOUT, why).into_response()
    });
    if ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Limits = Limits {
        idle: Duration::from_millis(50),
        answer: Duration::from_millis(100),
        life: Duration::from_secs(60),
        ..LIMITS
    };

    /// What comes back when `text` is sent and nothing more.
    async fn answer(text: &str) -> String {
        let slow = async || tokio::time::sleep(Duration::from_secs(3600)).await;
        let routes = Router::new().route("/slow", get(slow)).route("/ok", post(async || "fine"));
        let router = routes.layer(from_fn_with_state(SHORT, bound));
        let (mut guest, host) = tokio::io::duplex(64 * 1024);
        let tasks = Tasks::new();
        let serving = connection(host, router, SHORT, &tasks);
        let asking = async {
            guest.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            guest.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(asking, serving).0
    }

    #[tokio::test]
    async fn what_a_guest_may_take_up_is_bounded() {
        let fill = "x".repeat(20_000);
        for (text, begins) in [
            // Nothing, half a head, an idle connection: ended without a word.
            ("".to_owned(), ""),
            ("POST /ok HTTP/1.1\r\nhost:".to_owned(), ""),
            ("POST /ok HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 200"),
            (format!("POST /ok HTTP/1.1\r\nx: {fill}\r\n\r\n"), "HTTP/1.1 431"),
            (format!("POST /ok HTTP/1.1\r\ncontent-length: 20000\r\n\r\n{fill}"), "HTTP/1.1 413"),
            ("POST /ok HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf".to_owned(), "HTTP/1.1 408"),
            ("GET /slow HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 408"),
            ("nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ] {
            let answer = answer(&text).await;
            let sent: String = text.chars().take(60).collect();
            assert!(
                answer.starts_with(begins) && answer.is_empty() == begins.is_empty(),
                "{sent:?}: {answer}"
            );
        }
    }
}
