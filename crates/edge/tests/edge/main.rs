//! The edge as clients, apps and hosts see it, on paused time.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod answers;
mod clients;
mod fake;
mod health;
mod hosts;
mod races;
mod suspend;

use bytes::Bytes;
use fake::*;
use futures_util::future::join_all;
use host_api::{RouteState, WakeRefused};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

const MIB: usize = 1 << 20;

/// `n` MiB in pieces, and the answer of `/sum` for them.
fn upload(n: usize) -> (OutBody, String) {
    let piece: Bytes = (0..MIB).map(|i| (i * 7 % 251) as u8).collect();
    let mut sum = 0u64;
    for _ in 0..n {
        for b in &piece {
            sum = sum.wrapping_mul(31).wrapping_add((*b).into());
        }
    }
    let frames = (0..n).map(move |_| Ok(Frame::data(piece.clone())));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    (BodyExt::boxed(body), format!("{} {sum}", n * MIB))
}

pub(crate) async fn websocket(world: &World) -> TokioIo<hyper::upgrade::Upgraded> {
    let mut req = request("/ws");
    req.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    req.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let response = world.client().await.send(req).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

pub(crate) async fn echo(io: &mut TokioIo<hyper::upgrade::Upgraded>, text: &[u8]) {
    io.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    io.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text);
}

#[tokio::test(start_paused = true)]
async fn a_request_reaches_the_app_with_the_edges_headers() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    let mut req = request("/headers?x=1");
    req.headers_mut().insert("fly-client-ip", "6.6.6.6".parse().unwrap());
    req.headers_mut().insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
    let answer = world.ask(req).await;
    assert_eq!(answer.status, 200);
    for line in [
        "GET /headers?x=1 HTTP/1.1",
        "host: web.localhost\n",
        "fly-client-ip: 127.0.0.1\n",
        "fly-forwarded-port: 80\n",
        "fly-region: local\n",
        "x-forwarded-for: 10.0.0.1, 127.0.0.1, 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-ssl: off\n",
        "via: 1.1 fly.io\n",
    ] {
        assert!(answer.text.contains(line), "{line} in\n{}", answer.text);
    }
    let id = answer.headers["fly-request-id"].to_str().unwrap();
    assert!(id.len() == 32 && id.ends_with("-local"), "{id}");
    assert!(answer.text.contains(&format!("fly-request-id: {id}\n")));
    assert!(answer.headers["server"].to_str().unwrap().starts_with("Fly/"));
    assert_eq!(answer.headers["via"], "1.1 fly.io");
    assert!(!answer.headers.contains_key("keep-alive"));
    let metrics = world.metrics();
    assert!(
        metrics.contains(
            r#"fly_edge_http_responses_count{region="local",host="0000",app="web",status="200"} 1"#
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains(
            r#"fly_app_concurrency{app="web",instance="00000000006d31",region="local",host="0000"}"#
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"fly_edge_tcp_connects_count{region="local",host="0000"} 1"#),
        "{metrics}"
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pristine_port_adds_nothing_to_answers() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |s| {
        s["ports"][0]["http_options"] = serde_json::json!({"response": {"pristine": true}});
    });
    let answer = world.get("/headers").await;
    assert_eq!(answer.headers["server"], "app/1");
    assert!(!answer.headers.contains_key("via") && !answer.headers.contains_key("fly-request-id"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn h2_without_tls_works_with_bodies_and_trailers() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    world.host.settle().await;
    let io = TokioIo::new(world.connect());
    let exec = hyper_util::rt::TokioExecutor::new();
    let (mut h2, conn) = hyper::client::conn::http2::handshake(exec, io).await.unwrap();
    let tasks = rt::Tasks::new();
    tasks.spawn_until_stop(async move { drop(conn.await) });
    let uri = |path: &str| format!("http://web.localhost{path}");
    let req = Request::get(uri("/headers")).body(empty()).unwrap();
    let answer = read(h2.send_request(req).await.unwrap()).await;
    assert!(answer.text.contains("via: 2 fly.io"), "{}", answer.text);
    assert!(answer.text.contains("host: web.localhost\n"), "{}", answer.text);
    let (body, sum) = upload(3);
    let req = Request::post(uri("/sum")).body(body).unwrap();
    assert_eq!(read(h2.send_request(req).await.unwrap()).await.text, sum);
    let req = Request::get(uri("/trailers")).header("te", "trailers").body(empty()).unwrap();
    let answer = read(h2.send_request(req).await.unwrap()).await;
    assert_eq!(answer.trailers.unwrap()["x-out"], "none");
    drop(h2);
    tasks.shutdown(Duration::from_secs(5)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-in", "hi".parse().unwrap());
    let frames = [Ok(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    let mut req = post("/trailers", body);
    req.headers_mut().insert("te", "trailers".parse().unwrap());
    req.headers_mut().insert("trailer", "x-in".parse().unwrap());
    let answer = world.ask(req).await;
    assert_eq!((answer.text.as_str(), answer.status), ("body", 200));
    assert_eq!(answer.trailers.unwrap()["x-out"], "hi");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn connections_to_the_app_are_used_again_unless_it_counts_connections() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let mut client = world.client().await;
    for _ in 0..20 {
        assert_eq!(client.ask(request("/")).await.status, 200);
    }
    assert_eq!(app.connections.load(SeqCst), 1);
    let counting =
        world.machine("m1", |s| s["concurrency"] = serde_json::json!({"type": "connections"}));
    world.host.bring_up("m1");
    world.host.until_acknowledged().await;
    for _ in 0..6 {
        assert_eq!(client.ask(request("/")).await.status, 200);
    }
    assert_eq!(counting.connections.load(SeqCst), 6);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_hangs_up_between_requests_costs_no_request() {
    let world = World::new(config()).await;
    let app = world.machine("m1", |_| {});
    app.hangs_up.store(true, SeqCst);
    world.host.bring_up("m1");
    let mut client = world.client().await;
    for n in 0..200 {
        let answer = client.ask(request("/")).await;
        assert_eq!(answer.status, 200, "request {n}: {}", answer.text);
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_to_a_sleeping_machine_wake_it_once() {
    let world = World::new(config()).await;
    let gate = Arc::new(Notify::new());
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::Gated(gate.clone()));
    let open = async {
        world.host.called(1).await;
        gate.notify_one();
    };
    let all = join_all((0..100).map(|_| world.get("/")));
    let (answers, ()) = tokio::join!(all, open);
    assert!(answers.iter().all(|a| a.status == 200 && a.text == "hello from m1"));
    assert_eq!(world.host.calls(), ["wake m1"]);
    assert!(world.metrics().contains(
        r#"updraft_edge_wake_seconds_count{region="local",host="0000",stage="first_byte"}"#
    ));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_held_during_a_wake_arrives_whole() {
    let world = World::new(config()).await;
    let gate = Arc::new(Notify::new());
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::Gated(gate.clone()));
    let (body, sum) = upload(10);
    let open = async {
        world.host.called(1).await;
        gate.notify_one();
    };
    let (answer, ()) = tokio::join!(world.ask(post("/sum", body)), open);
    assert_eq!((answer.status, answer.text), (200, sum));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_wakes_and_holds_off_autostop() {
    let config = edge::EdgeConfig { autostop_interval: Duration::from_millis(20), ..config() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |s| s["autostop"] = true.into());
    let mut ws = websocket(&world).await;
    for n in 0..20 {
        echo(&mut ws, format!("message {n}").as_bytes()).await;
        // The pace of the client, on paused time.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.host.calls(), ["wake m1"]);
    drop(ws);
    assert_eq!(world.host.called(2).await, ["wake m1", "stop m1"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_hard_limit_requests_wait_for_a_place() {
    let world = World::new(config()).await;
    let app = world.machine("m1", |s| {
        s["concurrency"] =
            serde_json::json!({"type": "requests", "soft_limit": 1, "hard_limit": 2});
    });
    world.host.bring_up("m1");
    let all = join_all((0..20).map(|_| world.get("/gate")));
    let open = async {
        for answered in 0..20 {
            app.until(|app| app.inside.load(SeqCst) > 0).await;
            app.gate.notify_one();
            app.until(|app| app.requests.load(SeqCst) > answered).await;
        }
    };
    let (answers, ()) = tokio::join!(all, open);
    assert!(answers.iter().all(|a| a.status == 200));
    assert_eq!(app.most_inside.load(SeqCst), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_time_and_number() {
    let config =
        edge::EdgeConfig { capacity_timeout: Duration::from_millis(50), max_held: 3, ..config() };
    let world = World::new(config).await;
    let app = world.machine("m1", |s| {
        s["concurrency"] = serde_json::json!({"hard_limit": 1, "type": "requests"})
    });
    world.host.bring_up("m1");
    let mut client = world.client().await;
    let first = client.send(request("/gate"));
    let rest = async {
        app.until(|app| app.inside.load(SeqCst) > 0).await;
        let answers = join_all((0..6).map(|_| world.get("/"))).await;
        app.gate.notify_one();
        answers
    };
    let (first, rest) = tokio::join!(first, rest);
    assert_eq!(first.status(), 200);
    assert!(rest.iter().all(|a| a.status == 503 && a.text.starts_with("PL02")), "{rest:?}");
    let full = rest.iter().filter(|a| a.text.contains("are waiting already")).count();
    assert!((1..=3).contains(&full), "{full}");
    drop(client);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn over_the_soft_limit_one_more_machine_is_woken() {
    let world = World::new(config()).await;
    let tune = |s: &mut serde_json::Value| {
        s["concurrency"] = serde_json::json!({"type": "requests", "soft_limit": 1});
    };
    let one = world.machine("m1", tune);
    let _two = world.machine("m2", tune);
    world.host.bring_up("m1");
    let busy = world.get("/gate");
    let check = async {
        one.until(|app| app.inside.load(SeqCst) > 0).await;
        assert_eq!(world.get("/").await.status, 200, "served at once by a machine that runs");
        assert_eq!(world.host.called(1).await, ["wake m2"]);
        world.host.until_acknowledged().await;
        assert_eq!(world.get("/").await.text, "hello from m2", "it is below its soft limit");
        one.gate.notify_one();
    };
    tokio::join!(busy, check);
    assert_eq!(world.host.calls(), ["wake m2"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_name_code_and_remedy() {
    let config = edge::EdgeConfig { retry_for: Duration::from_millis(100), ..config() };
    let world = World::new(config).await;
    let unknown = Request::get("/").header("host", "unknown.localhost").body(empty()).unwrap();
    let answer = world.ask(unknown).await;
    assert_eq!(answer.code(), (404, "UR01"));
    let _app = world.machine("m1", |s| s["autostart"] = false.into());
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (503, "PR01"));
    world.host.change("m1", |r| r.services[0].autostart = None);
    world.host.change("m1", |r| r.cordoned = true);
    assert_eq!(world.get("/").await.status, 503, "cordoned is not woken");
    assert_eq!(world.host.calls(), [] as [&str; 0]);
    world.host.change("m1", |r| r.cordoned = false);
    world.host.on_wake("m1", OnWake::Refuse(WakeRefused::NoCapacity("memory".into())));
    let mut req = request("/");
    req.headers_mut().insert("accept", "application/json".parse().unwrap());
    let answer = world.ask(req).await;
    let body: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(
        (answer.status, &body["code"], &body["machine"]),
        (503, &"PM07".into(), &"00000000006d31".into())
    );
    assert_eq!(body["request_id"], answer.headers["fly-request-id"].to_str().unwrap());
    world.host.logged("[PM07]").await;
    world.host.set("m1", RouteState::Started, true);
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (502, "PC01"), "nothing listens there");
    let no_port = Request::get("/").header("host", "raw.localhost").body(empty()).unwrap();
    world.host.change("m1", |r| {
        r.app = model::id::AppId(2);
        r.app_name = "raw".parse().unwrap();
        r.services[0].ports.as_mut().unwrap()[0].handlers = None;
    });
    let answer = world.ask(no_port).await;
    assert_eq!(answer.code(), (404, "UR02"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_never_listens_ends_in_504_and_logs_what_it_waits_for() {
    let config = edge::EdgeConfig {
        wake_timeout: Duration::from_millis(200),
        still_waiting_every: Duration::from_millis(50),
        ..config()
    };
    let world = World::new(config).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::NeverListens);
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (504, "PM03"), "{}", answer.text);
    world.host.logged("Still waiting for machine to listen on 0.0.0.0:8080").await;
    assert_eq!(world.host.calls(), ["wake m1"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_dies_while_starting_is_woken_again_within_bounds() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::NeverListens);
    let kill = async {
        for n in 1..=4 {
            world.host.called(n).await;
            tokio::task::yield_now().await;
            world.host.set("m1", RouteState::Asleep, false);
        }
    };
    let (answer, ()) = tokio::join!(world.get("/"), kill);
    assert_eq!(answer.code(), (503, "PM07"), "{}", answer.text);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_outlasts_any_number_of_stops() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::NeverListens);
    let stop = async {
        for n in 1..=9 {
            world.host.called(n).await;
            tokio::task::yield_now().await;
            if n == 9 {
                world.host.on_wake("m1", OnWake::Up);
            }
            // Asked for, unlike an end by itself; both are reported at once.
            world.host.set("m1", RouteState::Stopping, false);
            world.host.set("m1", RouteState::Asleep, false);
        }
    };
    let (answer, ()) = tokio::join!(world.get("/"), stop);
    assert_eq!((answer.status, &*answer.text), (200, "hello from m1"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_stopped_on_its_way_up_is_woken_again() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::Stopped);
    let answers = join_all((0..5).map(|_| world.get("/"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    // A core whose table trails may ask once more, and is answered that it runs.
    assert!((2..=3).contains(&world.host.calls().len()), "{:?}", world.host.calls());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_machine_takes_what_one_refuses() {
    let world = World::new(config()).await;
    let _dead = world.machine("dead", |_| {});
    world.host.set("dead", RouteState::Started, true);
    let _live = world.running("live");
    for _ in 0..20 {
        let (body, sum) = upload(1);
        assert_eq!(world.ask(post("/sum", body)).await.text, sum);
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_to_an_upload_is_not_lost() {
    let world = World::new(config()).await;
    let app = world.machine("m1", |_| {});
    // Answers after the head, and closes with the upload unread.
    app.answers_raw(Some(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 4\r\n\r\nlong"));
    world.host.bring_up("m1");
    for n in 0..40 {
        let (body, _) = upload(4);
        let response = world.client().await.send(post("/x", body)).await;
        assert_eq!(response.status(), 413, "round {n}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn big_answers_stream() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let mut client = world.client().await;
    let mut body = client.send(request("/big")).await.into_body();
    let mut n = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    assert_eq!(app.requests.load(SeqCst), 1, "the head came before the whole body could");
    while let Some(frame) = body.frame().await {
        n += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(n, 64 * MIB);
    drop(client);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_loses_its_place() {
    let config = edge::EdgeConfig { idle_timeout: Duration::from_millis(300), ..config() };
    let world = World::new(config).await;
    let app = world.machine("m1", |s| {
        s["concurrency"] = serde_json::json!({"type": "requests", "hard_limit": 1});
    });
    world.host.bring_up("m1");
    world.host.settle().await;
    let mut deaf = world.connect();
    deaf.write_all(b"GET /big HTTP/1.1\r\nhost: web.localhost\r\n\r\n").await.unwrap();
    app.until(|app| app.requests.load(SeqCst) > 0).await;
    let answer = world.get("/").await;
    assert_eq!((answer.status, &*answer.text), (200, "hello from m1"));
    drop(deaf);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn heads_are_limited() {
    let world = World::new(edge::EdgeConfig { max_header_bytes: 8192, ..config() }).await;
    let _app = world.running("m1");
    let mut req = request("/");
    req.headers_mut().insert("x-long", "x".repeat(20_000).parse().unwrap());
    assert_eq!(world.ask(req).await.status, 431);
    let mut req = request("/");
    for n in 0..200 {
        let name: http::HeaderName = format!("x-{n}").parse().unwrap();
        req.headers_mut().insert(name, "1".parse().unwrap());
    }
    assert_eq!(world.ask(req).await.status, 431);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_app_ends_in_504() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    world.host.change("m1", |r| {
        let port = &mut r.services[0].ports.as_mut().unwrap()[0];
        port.http_options =
            Some(wire::machines::HttpOptions { idle_timeout: Some(1), ..Default::default() });
    });
    let answer = world.get("/gate").await;
    assert_eq!(answer.code(), (504, "UR04"));
    assert_eq!(app.requests.load(SeqCst), 0, "and it is not asked twice");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_machine_is_stopped_once_and_after_its_own_seconds() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |s| {
        s["autostop"] = true.into();
        s["autostop_after_seconds"] = 0.into();
    });
    for round in 1..=5 {
        assert_eq!(world.get("/").await.status, 200);
        assert_eq!(world.host.called(round * 2).await.len(), round * 2);
    }
    assert_eq!(world.host.calls()[..4], ["wake m1", "stop m1", "wake m1", "stop m1"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_minimum_stays_up_and_a_refused_stop_is_undone() {
    let config = edge::EdgeConfig { autostop_interval: Duration::from_millis(10), ..config() };
    let world = World::new(config).await;
    let tune = |s: &mut serde_json::Value| {
        s["autostop"] = "suspend".into();
        s["min_machines_running"] = 1.into();
    };
    for id in ["m1", "m2", "m3"] {
        world.machine(id, tune);
        world.host.bring_up(id);
    }
    world.host.called(2).await;
    world.host.logged("Suspending: idle for 0s").await;
    for _ in 0..20 {
        assert_eq!(world.get("/").await.status, 200);
        // Ten intervals of autostop in all, on paused time.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.host.calls().len(), 2, "{:?}", world.host.calls());
    assert!(world.host.calls().iter().all(|call| call.starts_with("suspend ")));
    world.host.refuse_stops(true);
    let last = |n: u64| {
        world.host.change(&format!("m{n}"), |r| {
            r.services[0].min_machines_running = None;
        })
    };
    (1..=3).for_each(last);
    world.host.called(3).await;
    assert_eq!(world.get("/").await.status, 200, "a refused stop lets requests in again");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopping_machine_is_drained_by_its_last_answer_and_gets_nothing_more() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let up = Arc::new(Notify::new());
    world.host.on_wake("m1", OnWake::Gated(up.clone()));
    let stop = async {
        app.until(|app| app.inside.load(SeqCst) > 0).await;
        world.host.set("m1", RouteState::Stopping, true);
        let later = join_all((0..5).map(|_| world.get("/")));
        let rest = async {
            // From here on the edge has seen the stop, and holds what has come.
            world.host.called(1).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(world.host.drained_machines().is_empty(), "a request is in flight");
            app.gate.notify_one();
            world.host.until_drained(1).await;
            assert_eq!(app.requests.load(SeqCst), 1, "nothing but the slow one was sent");
            world.host.set("m1", RouteState::Asleep, false);
            up.notify_one();
        };
        tokio::join!(later, rest).0
    };
    let (slow, later) = tokio::join!(world.get("/gate"), stop);
    assert_eq!((slow.status, slow.text.as_str()), (200, "through"));
    assert!(later.iter().all(|answer| answer.status == 200), "{later:?}");
    assert_eq!(world.host.drained_machines(), ["m1"]);
    assert_eq!(world.host.calls(), ["wake m1"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn autostop_without_autostart_is_warned_of() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |s| {
        s["autostop"] = true.into();
        s["autostart"] = false.into();
    });
    world.host.logged("autostop is on and autostart is off").await;
    world.host.set("m1", RouteState::Unavailable, false);
    assert_eq!(world.get("/").await.status, 503);
    assert_eq!(world.host.log_text().matches("autostop is on").count(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_is_in_flight() {
    let world = World::new(config()).await;
    let app = world.running("m1");
    let slow = world.get("/gate");
    let stop = async {
        app.until(|app| app.inside.load(SeqCst) > 0).await;
        world.tasks.stop();
        app.gate.notify_one();
    };
    let (answer, ()) = tokio::join!(slow, stop);
    assert_eq!(answer.status, 200);
    world.end().await;
}
