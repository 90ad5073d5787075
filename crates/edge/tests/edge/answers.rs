//! Answers of apps that are odd, malformed or cut off, and what a client gets.

use crate::fake::*;
use http::Method;
use hyper::Request;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const TOO_SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\
    Connection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
const TOO_LARGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\
    Connection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";

fn of(method: Method) -> Request<OutBody> {
    let request = Request::builder().method(method).uri("http://web.localhost/x");
    request.header("host", "web.localhost").body(empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn chunks_beat_a_length_that_is_too_small_or_too_large() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    for bytes in [TOO_SMALL, TOO_LARGE] {
        app.answers_raw(Some(bytes));
        let answer = world.get("/").await;
        assert_eq!((answer.status, &*answer.text), (200, "hello world"));
        assert!(!answer.headers.contains_key("content-length"));
        // HTTP/1.0 has no chunks: the end of the connection ends the answer.
        let mut old = world.connect();
        old.write_all(b"GET / HTTP/1.0\r\nhost: web.localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        within(old.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nhello world"), "{answer}");
        assert!(!answer.contains("ontent-"), "{answer}");
    }
    app.answers_raw(Some(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    ));
    let answer = world.ask(of(Method::HEAD)).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("content-length"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn chunks_beat_a_length_over_http2_too() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    app.answers_raw(Some(TOO_SMALL));
    let (mut h2, _tasks) = http2(&world).await;
    let answer = read(within(h2.send_request(of(Method::GET))).await.unwrap()).await;
    assert_eq!((answer.status, &*answer.text), (200, "hello world"));
    drop(h2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_length_that_is_stated_twice_is_passed_on_once() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    app.answers_raw(Some(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nConnection: close\r\n\r\nhello",
    ));
    let answer = world.get("/").await;
    assert_eq!((answer.status, &*answer.text), (200, "hello"));
    let lengths: Vec<_> = answer.headers.get_all("content-length").iter().collect();
    assert_eq!(lengths, ["5"]);
    app.answers_raw(Some(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\nConnection: close\r\n\r\nhello",
    ));
    assert_eq!(world.get("/").await.code(), (502, "PU02"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn answers_may_have_many_fields_and_too_many_are_502_at_once() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let fields = |n: usize| -> &'static [u8] {
        let cookies: String = (0..n).map(|n| format!("Set-Cookie: c{n}=1\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 2\r\n\r\nok");
        Box::leak(head.into_boxed_str()).as_bytes()
    };
    app.answers_raw(Some(fields(150)));
    let answer = world.get("/").await;
    assert_eq!((answer.status, answer.headers.get_all("set-cookie").iter().count()), (200, 150));
    app.answers_raw(Some(fields(300)));
    let (began, asked) = (Instant::now(), app.requests.load(SeqCst));
    assert_eq!(world.get("/").await.code(), (502, "PU02"));
    assert_eq!((began.elapsed(), app.requests.load(SeqCst) - asked), (Duration::ZERO, 1));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_app_gets_no_request_more_than_twice_and_a_malformed_answer_is_final() {
    let world = World::new(config()).await;
    let apps = [world.running("m1"), world.running("m2"), world.running("m3")];
    let nothing: Option<&[u8]> = None;
    for (what, bytes, hits) in [
        ("malformed", Some(&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Bad : v\r\n\r\nok"[..]), 1),
        ("cut", Some(&b"HTTP/1.1 200 OK\r\nContent-Le"[..]), 1),
        ("nothing", nothing, 2),
    ] {
        apps.iter().for_each(|app| app.answers_raw(bytes));
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::POST] {
            let count = || apps.iter().map(|app| app.requests.load(SeqCst)).sum::<usize>();
            let (began, before) = (Instant::now(), count());
            let answer = world.ask(of(method.clone())).await;
            assert_eq!(answer.code(), (502, "PU02"), "{what} {method}");
            assert!(began.elapsed() < Duration::from_secs(2), "{what} {method}");
            let want = if method == Method::POST { 1 } else { hits };
            assert_eq!(count() - before, want, "{what} {method}");
        }
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_app_has_closed_costs_one_new_one() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let mut client = world.client().await;
    assert_eq!(client.ask(request("/")).await.status, 200);
    // Its keep-alive connection is answered by nothing from now on: a request on it
    // may have been lost with it.
    app.serve();
    assert_eq!(client.ask(request("/")).await.status, 200);
    assert_eq!(app.connections.load(SeqCst), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_body_is_the_clients_fault() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    world.host.settle().await;
    for (chunks, wanted) in [
        ("zz\r\nhello\r\n0\r\n\r\n", "400"),
        ("5\r\nhelloXX0\r\n\r\n", "400"),
        ("5\r\nhello\r\n0\r\n\r\n", "200"),
    ] {
        let mut client = world.connect();
        let head =
            "POST /sum HTTP/1.1\r\nhost: web.localhost\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}{chunks}").as_bytes()).await.unwrap();
        let mut start = [0; 12];
        within(client.read_exact(&mut start)).await.unwrap();
        let start = String::from_utf8_lossy(&start);
        assert_eq!(start, format!("HTTP/1.1 {wanted}"), "{chunks:?}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_protocol_is_only_to_the_one_that_was_offered() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let ask = |offered: &'static str, named: &'static str| {
        let mut req = request(&format!("/ws?{named}"));
        req.headers_mut().insert("connection", "upgrade".parse().unwrap());
        req.headers_mut().insert("upgrade", offered.parse().unwrap());
        req
    };
    for (offered, named, status) in [
        ("websocket", "websocket", 101),
        ("websocket", "WebSocket", 101),
        ("websocket, h2c", "websocket", 101),
        ("websocket, h2c", "h2c", 502),
        ("h2c, x", "h2c", 502),
        ("h2c,", "h2c", 502),
        ("x", "x,h2c", 502),
    ] {
        let mut client = world.client().await;
        let response = client.send(ask(offered, named)).await;
        assert_eq!(response.status(), status, "{offered} {named}");
    }
    assert!(app.requests.load(SeqCst) >= 6);
    world.end().await;
}

/// An HTTP/2 connection of a client.
pub(crate) async fn http2(
    world: &World,
) -> (hyper::client::conn::http2::SendRequest<OutBody>, rt::Tasks) {
    world.host.settle().await;
    let io = hyper_util::rt::TokioIo::new(world.connect());
    let exec = hyper_util::rt::TokioExecutor::new();
    let (h2, conn) = hyper::client::conn::http2::handshake(exec, io).await.unwrap();
    let tasks = rt::Tasks::new();
    tasks.spawn_until_stop(async move { drop(conn.await) });
    (h2, tasks)
}
