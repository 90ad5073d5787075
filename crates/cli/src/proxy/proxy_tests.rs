//! The listener between a client that writes bytes and an API that shows what has arrived.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An API that answers each connection with `reply`, then sends its bytes back; the heads that
/// it has got.
async fn api(reply: &'static str) -> (String, tokio::sync::mpsc::Receiver<String>, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heads, seen) = tokio::sync::mpsc::channel(8);
    let tasks = Tasks::new();
    tasks.spawn_until_stop(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.send(String::from_utf8(head).unwrap()).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            let mut rest = [0; 64];
            if let Ok(count) = stream.read(&mut rest).await {
                let _ = stream.write_all(&rest[..count].to_ascii_uppercase()).await;
            }
        }
    });
    (url, seen, tasks)
}

/// The listener's address.
async fn proxy(api: &str, tasks: &Tasks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    let client = Client::new(api, Some("t0ken")).unwrap();
    let inner = tasks.clone();
    tasks.spawn_until_stop(async move {
        let _ = serve(listener, client, inner).await;
    });
    local
}

async fn send(to: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = head.replace("LOCAL", &to.to_string());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn the_token_is_added_and_the_answer_passed_back() {
    let reply = "HTTP/1.1 418 I'm a teapot\r\nupdraft-warning: w\r\ncontent-length: 2\r\n\r\nhi";
    let (url, mut seen, tasks) = api(reply).await;
    let local = proxy(&format!("{url}/under"), &tasks).await;
    let head = "GET /v1/apps?org_slug=a%20b HTTP/1.1\r\nHost: LOCAL\r\nX-Mine: 1\r\n\
                Connection: close\r\n\r\n";
    let answer = all(send(local, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert!(
        answer.contains("updraft-warning: w\r\n") && answer.ends_with("\r\n\r\nhi"),
        "{answer}"
    );
    let got = seen.recv().await.unwrap();
    assert!(got.starts_with("GET /under/v1/apps?org_slug=a%20b HTTP/1.1\r\n"), "{got}");
    assert!(
        got.contains("authorization: Bearer t0ken\r\n") && got.contains("x-mine: 1\r\n"),
        "{got}"
    );
    assert!(got.contains(&format!("host: {}\r\n", url.trim_start_matches("http://"))), "{got}");
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_token_of_the_client_is_kept_and_bodies_arrive() {
    let (url, mut seen, tasks) = api("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let local = proxy(&url, &tasks).await;
    let head = "POST /v1/apps HTTP/1.1\r\nHost: LOCAL\r\nAuthorization: Bearer own\r\n\
                Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    let answer = all(send(local, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let got = seen.recv().await.unwrap();
    assert!(got.contains("authorization: Bearer own\r\n") && !got.contains("t0ken"), "{got}");
    assert!(got.contains("content-length: 2\r\n"), "{got}");
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_websocket_is_passed_through() {
    let reply = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: x\r\n\r\n";
    let (url, mut seen, tasks) = api(reply).await;
    let local = proxy(&url, &tasks).await;
    let head = "GET /exec HTTP/1.1\r\nHost: LOCAL\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    let mut stream = send(local, head).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(
        answer.starts_with("http/1.1 101") && answer.contains("upgrade: websocket"),
        "{answer}"
    );
    let got = seen.recv().await.unwrap();
    assert!(
        got.contains("sec-websocket-key: k\r\n") && got.contains("upgrade: websocket"),
        "{got}"
    );
    stream.write_all(b"frame").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"FRAME");
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused_with_a_reason() {
    let tasks = Tasks::new();
    // Port 1 on loopback: nothing listens there.
    let local = proxy("http://127.0.0.1:1", &tasks).await;
    let ask = "GET / HTTP/1.1\r\nHost: LOCAL\r\nConnection: close\r\n\r\n";
    let answer = all(send(local, ask).await).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("127.0.0.1:1"), "{answer}");
    let ask = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = all(send(local, ask).await).await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("\"hint\""), "{answer}");
    let answer = all(send(local, "no HTTP at all\r\n\r\n").await).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    tasks.shutdown(Duration::from_secs(5)).await;
}
