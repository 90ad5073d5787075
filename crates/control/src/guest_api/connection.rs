//! One connection out of a guest.

use super::bounds::Limits;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rt::Tasks;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Time for the answer under way once the platform stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn serve<Io>(io: Io, router: Router, limits: Limits, tasks: &Tasks)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(limits.head);
    // A client that has sent everything may still read (`nc -U`).
    protocol.half_close(true);
    let served = protocol.serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = timeout(limits.life, served.as_mut()) => ended,
        () = tasks.stopping() => {
            served.as_mut().graceful_shutdown();
            timeout(STOP_TIMEOUT, served).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(err)) => tracing::trace!(error = %err, "a connection of a machine ended"),
        Err(_) => tracing::trace!("a connection of a machine was cut off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_api::bounds::{LIMITS, enforce};
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Limits = Limits {
        idle: Duration::from_millis(50),
        answer: Duration::from_millis(100),
        life: Duration::from_secs(60),
        ..LIMITS
    };

    /// The answer when `text` is sent and nothing more.
    async fn answer(text: &str) -> String {
        let slow = async || std::future::pending::<()>().await;
        let routes = Router::new().route("/slow", get(slow)).route("/ok", post(async || "fine"));
        let router = routes.layer(from_fn_with_state(SHORT, enforce));
        let (mut guest, host) = tokio::io::duplex(64 * 1024);
        let tasks = Tasks::new();
        let serving = serve(host, router, SHORT, &tasks);
        let asking = async {
            guest.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            guest.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(asking, serving).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_can_take_up_only_so_much() {
        let fill = "x".repeat(20_000);
        for (text, begins) in [
            // Nothing, half a head, an idle connection: closed without an answer.
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
