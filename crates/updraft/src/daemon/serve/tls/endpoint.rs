//! The endpoint of flyctl's tunnels: a WebSocket (RFC 6455), in which the client sends WireGuard
//! datagrams. There is no WireGuard behind it: what comes is discarded, and nothing is answered.
//! Commands that make a tunnel and send nothing through it work; a client that uses it gets
//! no answer to its handshake and gives up by itself.
//!
//! The bytes are not read as frames. A client that only makes a tunnel sends little: a handshake of
//! 148 bytes every 5 seconds (<https://www.wireguard.com/protocol/>) and a keep-alive each second.

use super::super::places::Place;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use rt::Tasks;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// A client without a keep-alive for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A client may send so many bytes in one [`PERIOD`]: some hundred times what it needs.
const MOST_BYTES: usize = 128 * 1024;
const PERIOD: Duration = Duration::from_secs(10);
/// Time of the last frame.
const CLOSING: Duration = Duration::from_secs(1);
/// Longest key of an upgrade: 16 bytes in base64 have 24.
const MAX_KEY: usize = 64;

/// Serves one client, until it leaves, breaks a limit, has to make place, or the tasks stop.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    place: &Place,
    head: Duration,
    tasks: &Tasks,
) {
    let upgraded = tokio::select! {
        upgraded = timeout(head, upgrade(stream)) => upgraded.ok().flatten(),
        () = place.cut_off.cancelled() => None,
        () = tasks.stopping() => None,
    };
    let Some(mut client) = upgraded.map(TokioIo::new) else { return };
    let why = tokio::select! {
        why = discard(&mut client) => why,
        () = place.cut_off.cancelled() => Some((1013, "there are too many tunnels")),
        () = tasks.stopping() => Some((1001, "the daemon stops")),
    };
    if let Some((code, reason)) = why {
        tracing::debug!(reason, "a tunnel is closed");
        let _ = timeout(CLOSING, close(&mut client, code, reason)).await;
    }
}

/// Answers the one request of a connection; the connection if it was upgraded.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Option<Upgraded> {
    let upgraded = Arc::new(Mutex::new(None));
    let to = upgraded.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answer = answer(request.headers());
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut request);
            *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
        }
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut protocol = http1::Builder::new();
    // No `keep_alive(false)`, which would replace `Connection: upgrade`. An answer that is no
    // upgrade ends the connection by itself.
    protocol.timer(TokioTimer::new());
    let served = protocol.serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(err) = served.await {
        tracing::trace!(error = %err, "a connection for a tunnel ended");
    }
    let upgraded = upgraded.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    upgraded.await.ok()
}

/// 101 for the upgrade to a WebSocket (RFC 6455, 4.2.2), on any path.
fn answer(headers: &HeaderMap) -> Response<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has =
        |name, word: &str| text(name).split(',').any(|it| it.trim().eq_ignore_ascii_case(word));
    let key = text(header::SEC_WEBSOCKET_KEY);
    let is_upgrade = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && text(header::SEC_WEBSOCKET_VERSION) == "13"
        && (1..=MAX_KEY).contains(&key.len());
    let answer = Response::builder();
    let built = if is_upgrade {
        answer
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
            .body(String::new())
    } else {
        answer
            .status(StatusCode::UPGRADE_REQUIRED)
            .header(header::CONNECTION, "close, upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::CONTENT_TYPE, "text/plain")
            .body("only tunnels of flyctl end here (WebSocket); see docs/flyctl.md\n".to_owned())
    };
    // Fixed texts, and base64: they are valid headers.
    built.unwrap_or_default()
}

/// Reads until the client leaves (`None`), or why it is to leave.
async fn discard(client: &mut (impl AsyncRead + Unpin)) -> Option<(u16, &'static str)> {
    let mut buffer = vec![0; 4096];
    let (mut begun, mut bytes) = (Instant::now(), 0);
    loop {
        match timeout(SILENCE, client.read(&mut buffer)).await {
            Err(_) => return Some((1001, "nothing was sent for too long")),
            Ok(Err(_) | Ok(0)) => return None,
            Ok(Ok(read)) => bytes += read,
        }
        if begun.elapsed() > PERIOD {
            (begun, bytes) = (Instant::now(), 0);
        }
        if bytes > MOST_BYTES {
            return Some((1008, "tunnels carry no data on this platform"));
        }
    }
}

/// Sends a close frame (RFC 6455, 5.5.1), and ends the connection.
async fn close(
    client: &mut (impl AsyncWrite + Unpin),
    code: u16,
    reason: &str,
) -> std::io::Result<()> {
    // At most 125 bytes: the reasons above are short.
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = vec![0x88, length];
    frame.extend(code.to_be_bytes());
    frame.extend(&reason.as_bytes()[..usize::from(length) - 2]);
    client.write_all(&frame).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_upgrade_is_accepted() {
        // The example of RFC 6455, 1.3.
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            assert_eq!(answer(&headers).status(), 426);
            headers.insert(name, value.parse().unwrap());
        }
        let accepted = answer(&headers);
        assert_eq!(accepted.status(), 101);
        assert_eq!(accepted.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_keep_its_tunnel_alive_and_do_no_more() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let reading = discard(&mut near);
        let sending = async {
            for _ in 0..600 {
                far.write_all(&[0; 200]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            far.write_all(&vec![0; MOST_BYTES + 1]).await.unwrap();
            far
        };
        let (why, _far) = tokio::join!(reading, sending);
        assert_eq!(why.unwrap().0, 1008);
        let begun = Instant::now();
        assert_eq!(discard(&mut near).await.unwrap().0, 1001);
        assert_eq!(begun.elapsed(), SILENCE);
    }

    #[tokio::test]
    async fn a_close_frame_has_code_and_reason() {
        let (mut near, mut far) = tokio::io::duplex(64);
        close(&mut near, 1001, "bye").await.unwrap();
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"\x88\x05\x03\xe9bye");
    }
}
