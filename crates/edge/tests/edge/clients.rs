//! Connections of clients: silent, idle and too many, and the end of the edge.

use crate::answers::http2;
use crate::fake::*;
use crate::{echo, websocket};
use std::io::ErrorKind;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Waits until the edge has closed it; returns what came before.
async fn closed(stream: &mut DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    let read = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return,
                Ok(n) => all.extend(&buffer[..n]),
                Err(err) => assert_eq!(err.kind(), ErrorKind::BrokenPipe),
            }
        }
    };
    within(read).await;
    all
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_whole_request_is_closed_within_the_time_for_a_head() {
    let world = World::new(config()).await;
    for first in ["", "P", "PRI * HTTP/2.0\r\n\r\nS", "GET / HT"] {
        let mut stream = world.connect();
        stream.write_all(first.as_bytes()).await.unwrap();
        let began = Instant::now();
        closed(&mut stream).await;
        assert_eq!(began.elapsed().as_secs(), 60, "{first:?}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_without_requests_is_closed() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let (mut h2, tasks) = http2(&world).await;
    let get = |path: &str| {
        let uri = format!("http://web.localhost{path}");
        hyper::Request::get(uri).body(empty()).unwrap()
    };
    let slow = h2.send_request(get("/gate"));
    let slow = tasks.spawn(slow);
    app.until(|app| app.inside.load(SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(h2.ready().await.is_ok(), "a request is open");
    app.gate.notify_one();
    let answer = read(within(slow).await.unwrap().unwrap()).await;
    assert_eq!(answer.status, 200);
    let began = Instant::now();
    within(async {
        while h2.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let idle = began.elapsed().as_secs();
    assert!((60..=64).contains(&idle), "closed after {idle} s, though it answers pings");
    tasks.shutdown(Duration::from_secs(1)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_the_longest_idle_connection_makes_room() {
    let world = World::new(edge::EdgeConfig { max_connections: 4, ..config() }).await;
    let _app = world.running("m1");
    let mut silent: Vec<_> = (0..4).map(|_| world.connect()).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.get("/").await.status, 200);
    let began = Instant::now();
    closed(&mut silent[0]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let metrics = world.metrics();
    assert!(metrics.contains(r#"updraft_edge_evicted_total{region="local",host="0000"} 1"#));
    assert!(metrics.contains(r#"updraft_edge_refused_total{region="local",host="0000"} 0"#));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn held_requests_are_answered_with_a_code_when_the_edge_stops() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::NeverListens);
    let stop = async {
        world.host.called(1).await;
        let began = Instant::now();
        let ended = world.tasks.shutdown(Duration::from_secs(10)).await;
        assert!(ended && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    };
    let (one, two, ()) = tokio::join!(world.get("/"), world.get("/"), stop);
    for answer in [one, two] {
        assert_eq!(answer.code(), (503, "UR06"), "{}", answer.text);
    }
}

#[tokio::test]
async fn real_sockets_are_served_by_all_cores() {
    let world = World::new(on_threads()).await;
    let app = world.running("m1");
    app.until(|_| true).await;
    world.host.until_acknowledged().await;
    let addr = world.edge.local_addrs()[0];
    for n in 0..8 {
        let stream = TcpStream::connect(addr).await.unwrap();
        let answer = Client::new(stream).await.ask(request("/")).await;
        assert_eq!((answer.status, &*answer.text), (200, "hello from m1"), "{n}");
    }
    assert!(app.connections.load(SeqCst) >= 2, "each core has a pool of its own");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_keeps_its_place() {
    let world = World::new(edge::EdgeConfig { max_connections: 1, ..config() }).await;
    let _app = world.running("m1");
    let mut ws = websocket(&world).await;
    echo(&mut ws, b"one").await;
    let mut second = world.connect();
    assert_eq!(closed(&mut second).await, b"");
    let refused = r#"updraft_edge_refused_total{region="local",host="0000"} 1"#;
    assert!(world.metrics().contains(refused));
    echo(&mut ws, b"two").await;
    ws.shutdown().await.unwrap();
    drop(ws);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.get("/").await.status, 200);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_has_the_time_of_the_drain() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    let mut ws = websocket(&world).await;
    echo(&mut ws, b"one").await;
    let stop = world.tasks.shutdown(Duration::from_secs(30));
    let client = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        echo(&mut ws, b"two").await;
        ws.shutdown().await.unwrap();
        drop(ws);
        Instant::now()
    };
    let began = Instant::now();
    let (ended, left) = tokio::join!(async { (stop.await, Instant::now()) }, client);
    assert!(ended.0);
    assert!(ended.1 >= left, "the edge waited {:?}", ended.1 - began);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_connections_to_machines_waits_and_then_fails() {
    let wait = Duration::from_secs(2);
    let limits = edge::EdgeConfig { max_upstream: 1, capacity_timeout: wait, ..config() };
    let world = World::new(limits).await;
    let app = world.running("m1");
    let others = async {
        app.until(|app| app.inside.load(SeqCst) == 1).await;
        let began = Instant::now();
        let answer = world.get("/").await;
        assert_eq!(answer.code(), (503, "PL01"), "{}", answer.text);
        assert_eq!(began.elapsed().as_secs(), 2);
        let release = async {
            tokio::time::sleep(wait / 2).await;
            app.gate.notify_one();
        };
        tokio::join!(world.get("/"), release).0
    };
    let (first, last) = tokio::join!(world.get("/gate"), others);
    assert_eq!((first.status, last.status), (200, 200), "{}", last.text);
    // A tunnel has a connection, too.
    let ws = websocket(&world).await;
    assert_eq!(world.get("/").await.code(), (503, "PL01"));
    drop(ws);
    assert_eq!(world.get("/").await.status, 200);
    // An idle connection makes room for one to another machine.
    let other = world.machine("m2", |_| {});
    world.host.take_down("m1");
    world.host.bring_up("m2");
    world.host.until_acknowledged().await;
    assert_eq!(world.get("/").await.text, "hello from m2");
    assert_eq!(other.connections.load(SeqCst), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_takes_nothing_loses_its_place_at_the_machine() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let (mut h2, tasks) = http2(&world).await;
    let big = hyper::Request::get("http://web.localhost/big").body(empty()).unwrap();
    let response = within(h2.send_request(big)).await.unwrap();
    assert_eq!(response.status(), 200);
    let load = |n: u32| {
        let of = r#"instance="00000000006d31",region="local",host="0000"}"#;
        world.metrics().contains(&format!("fly_app_concurrency{{app=\"web\",{of} {n}"))
    };
    tokio::time::sleep(Duration::from_secs(55)).await;
    assert!(load(1), "{}", world.metrics());
    // It answers pings all the while.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(load(0), "{}", world.metrics());
    // The body that was cut does not pass for a whole one.
    use http_body_util::BodyExt;
    assert!(within(response.into_body().collect()).await.is_err());
    assert_eq!(app.connections.load(SeqCst), 1);
    tasks.shutdown(Duration::from_secs(1)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_may_send_little_before_the_app_takes_it() {
    let world = World::new(config()).await;
    let mut stream = world.connect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (mut of_stream, mut of_connection) = (None, None);
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    while of_stream.is_none() || of_connection.is_none() {
        let mut head = [0; 9];
        within(stream.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; number(&[0, head[0], head[1], head[2]]) as usize];
        within(stream.read_exact(&mut payload)).await.unwrap();
        match head[3] {
            // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2)
            4 => {
                let mut settings = payload.chunks(6);
                let window = settings.find(|setting| setting[..2] == [0, 4]);
                of_stream = of_stream.or(window.map(|setting| number(&setting[2..])));
            }
            // WINDOW_UPDATE, on top of the 65 535 bytes of the protocol
            8 => of_connection = Some(65_535 + number(&payload)),
            _ => {}
        }
    }
    assert_eq!((of_stream, of_connection), (Some(256 << 10), Some(1 << 20)));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_ends_with_the_vm_that_it_leads_to() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    let mut ws = websocket(&world).await;
    echo(&mut ws, b"one").await;
    // The VM is killed: nothing of it closes the connection.
    let began = Instant::now();
    world.host.set("m1", host_api::RouteState::Asleep, false);
    let mut rest = Vec::new();
    within(ws.read_to_end(&mut rest)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.host.until_acknowledged().await;
    let load = r#"instance="00000000006d31",region="local",host="0000"} 1"#;
    assert!(!world.metrics().contains(load), "{}", world.metrics());
    world.end().await;
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// `GET` of a path of the app `web` as frames of HTTP/2: fields of the static table, and
/// literals (RFC 7541, 6.2.2).
fn h2_get(path: &str, stream: u8) -> Vec<u8> {
    let literal = |name: u8, value: &str| {
        [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    let fields = [vec![0x82, 0x86], literal(4, path), literal(1, "web.localhost")].concat();
    // END_HEADERS and END_STREAM
    frame(1, 0x05, stream, &fields)
}

#[tokio::test(start_paused = true)]
async fn an_http2_request_that_races_with_the_close_of_its_connection_is_answered() {
    const GOAWAY: u8 = 7;
    let world = World::new(config()).await;
    let app = world.running("m1");
    let mut stream = world.connect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut is_sent = false;
    let mut answers = Vec::new();
    let read = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            match (head[3], head[4]) {
                // The pings of a client that takes part, but for the one of the close: this
                // client has not seen it when it sends its request.
                (6, 0) if !is_sent => stream.write_all(&frame(6, 1, 0, &payload)).await.unwrap(),
                (GOAWAY, _) if !is_sent => {
                    is_sent = true;
                    stream.write_all(&h2_get("/gate", 1)).await.unwrap();
                    app.until(|app| app.inside.load(SeqCst) == 1).await;
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    app.gate.notify_one();
                }
                (0, _) => answers.extend(payload),
                _ => {}
            }
        }
    };
    within(read).await;
    assert!(is_sent, "the connection is closed for being idle");
    assert_eq!(String::from_utf8_lossy(&answers), "through");
    world.end().await;
}
