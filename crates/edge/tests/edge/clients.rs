//! Connections of clients: silent, idle and too many, and the end of the edge.

use crate::answers::http2;
use crate::fake::*;
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
