//! Machines that are suspended, and how fast and surely they wake.

use crate::fake::*;
use crate::fake_one_core;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::Instant;
use wire::routes::RouteState;

/// Suspends a machine the moment it is idle.
fn suspends(s: &mut serde_json::Value) {
    s["autostop"] = "suspend".into();
    s["autostop_after_seconds"] = 0.into();
}

fn timed(s: &mut serde_json::Value) {
    s["server_timing"] = true.into();
}

fn timings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("server-timing").iter().map(|line| line.to_str().unwrap()).collect()
}

#[tokio::test]
async fn an_idle_machine_is_suspended_and_wakes() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", suspends).await;
    for round in 1..=5 {
        assert_eq!(world.get("/").await.status, 200);
        assert_eq!(world.hosts.called(round * 2).await.len(), round * 2);
    }
    assert_eq!(world.hosts.calls()[..4], ["wake m1", "suspend m1", "wake m1", "suspend m1"]);
    world.hosts.logged("web m1 Suspending: idle for 0s").await;
    assert!(!world.hosts.logs().contains("Stopping"), "{}", world.hosts.logs());
    assert!(world.metrics().contains("updraft_edge_idle_suspends_total 5"));
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_suspended_is_stopped_by_the_host_and_wakes() {
    let world = World::new(config()).await;
    world.hosts.cannot_suspend();
    let _app = world.machine("m1", suspends).await;
    for round in 1..=3 {
        assert_eq!(world.get("/").await.status, 200);
        world.hosts.called(round * 2).await;
        assert!(!world.hosts.is_suspended("m1"));
    }
    world.end().await;
}

#[tokio::test]
async fn a_machine_whose_suspension_is_refused_goes_on_serving() {
    let config = edge::EdgeConfig { autostop_interval: Duration::from_millis(5), ..config() };
    let world = World::new(config).await;
    world.hosts.refuse_stops();
    let app = world.machine("m1", |s| s["autostop"] = "suspend".into()).await;
    world.hosts.bring_up("m1").await;
    let mut client = Client::new(world.edge).await;
    for n in 1..=5 {
        world.hosts.called(n).await;
        assert_eq!(client.ask(request("/")).await.status, 200);
    }
    assert_eq!(app.requests.load(SeqCst), 5);
    assert_eq!(app.connections.load(SeqCst), 5, "those that rest are closed beforehand");
    assert!(world.hosts.calls().iter().all(|call| call == "suspend m1"), "never woken");
    world.end().await;
}

#[tokio::test]
async fn a_suspended_machine_is_woken_before_a_stopped_one() {
    let world = World::new(config()).await;
    let mut apps = Vec::new();
    for id in ["m1", "m2", "m3", "m4"] {
        apps.push(world.machine(id, |_| {}).await);
    }
    world.hosts.change("m3", |r| r.suspended = true);
    assert_eq!(world.get("/").await.text, "hello from m3");
    assert_eq!(world.hosts.calls(), ["wake m3"]);
    world.end().await;
}

#[tokio::test]
async fn the_nearest_region_is_woken_before_a_suspended_machine_elsewhere() {
    let world = World::new(config()).await;
    let (_near, _far) = (world.machine("near", |_| {}).await, world.machine("far", |_| {}).await);
    world.hosts.change("far", |r| (r.suspended, r.region) = (true, "ams".into()));
    assert_eq!(world.get("/").await.text, "hello from near");
    assert_eq!(world.hosts.calls(), ["wake near"]);
    world.end().await;
}

#[tokio::test]
async fn a_woken_request_says_where_its_time_went() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", timed).await;
    world.hosts.change("m1", |r| {
        r.stages_ms = vec![("image".into(), 1.04), ("to orders".into(), 20.0)];
    });
    let answer = world.get("/timed").await;
    let [own, edges] = timings(&answer)[..] else { panic!("{:?}", answer.headers) };
    assert_eq!(own, "db;dur=7");
    let mut names = Vec::new();
    for stage in edges.split(", ") {
        let (name, ms) = stage.split_once(";dur=").unwrap();
        let (_, decimals) = ms.split_once('.').unwrap();
        assert!(decimals.len() == 1 && ms.parse::<f64>().unwrap() >= 0.0, "{edges}");
        names.push(name);
    }
    let want = ["edge_decide", "host_image", "host_to_orders", "connect", "first_byte", "total"];
    assert_eq!(names, want, "{edges}");
    assert!(edges.contains("host_image;dur=1.0, host_to_orders;dur=20.0, "), "{edges}");
    assert_eq!(timings(&world.get("/timed").await), ["db;dur=7"], "it did not wait");
    assert!(timings(&world.get("/").await).is_empty());
    let metrics = world.metrics();
    for stage in ["listening", "connect", "first_byte"] {
        let line = format!(r#"updraft_edge_wake_seconds_count{{stage="{stage}"}} 1"#);
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    world.end().await;
}

#[tokio::test]
async fn nothing_is_said_unless_the_service_asks_for_it_or_to_who_gets_no_answer_of_the_app() {
    let config = edge::EdgeConfig { wake_timeout: Duration::from_millis(50), ..config() };
    let world = World::new(config).await;
    let _off = world.machine("m1", |s| s["server_timing"] = false.into()).await;
    assert_eq!(timings(&world.get("/timed").await), ["db;dur=7"]);
    world.hosts.take_down("m1");
    let _pristine = world
        .machine("m1", |s| {
            timed(s);
            s["ports"][0]["http_options"] = serde_json::json!({"response": {"pristine": true}});
        })
        .await;
    let answer = world.get("/").await;
    assert!(answer.status == 200 && timings(&answer).is_empty(), "{:?}", answer.headers);
    world.hosts.take_down("m1");
    let _deaf = world.machine("m1", timed).await;
    world.hosts.on_wake("m1", OnWake::Deaf);
    let answer = world.get("/").await;
    assert!(answer.status == 504 && timings(&answer).is_empty(), "{:?}", answer.headers);
    world.end().await;
}

#[tokio::test]
async fn a_connect_that_is_refused_after_a_wake_is_tried_again_at_once() {
    // Failures would be given up at once: these are none.
    let config = edge::EdgeConfig { retry_for: Duration::ZERO, ..config() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |_| {}).await;
    for late in [3, 10, 40] {
        let late = Duration::from_millis(late);
        world.hosts.on_wake("m1", OnWake::Late(late));
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            let answer = world.get("/").await;
            assert_eq!((answer.status, &*answer.text), (200, "hello from m1"));
            assert!(began.elapsed() >= late);
            fastest = fastest.min(began.elapsed());
            world.hosts.take_down("m1");
        }
        // No pause is longer than all of the wait before it; the rest is for a
        // busy computer.
        assert!(fastest < late * 2 + Duration::from_millis(100), "{late:?} took {fastest:?}");
    }
    assert!(world.hosts.calls().iter().all(|call| call == "wake m1"));
    assert_eq!(world.hosts.calls().len(), 15, "no second wake for a refusal");
    assert!(world.metrics().contains("updraft_edge_retries_total 0"), "no failure");
    world.end().await;
}

#[tokio::test]
async fn a_refusal_after_a_wake_wakes_no_other_and_is_told_when_the_wakes_time_is_over() {
    let config = edge::EdgeConfig {
        wake_timeout: Duration::from_millis(300),
        retry_for: Duration::ZERO,
        still_waiting_every: Duration::from_millis(100),
        ..config()
    };
    let world = World::new(config).await;
    let (one, _two) = (world.machine("m1", |_| {}).await, world.machine("m2", |_| {}).await);
    world.hosts.change("m1", |r| r.suspended = true);
    world.hosts.on_wake("m1", OnWake::Late(Duration::from_secs(100)));
    let began = Instant::now();
    let answer = world.get("/").await;
    assert_eq!((answer.status, &answer.text[..4]), (502, "PC01"), "{}", answer.text);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(world.hosts.calls(), ["wake m1"]);
    let text = format!("Still waiting for machine to listen on 0.0.0.0:{}", one.addr.port());
    world.hosts.logged(&text).await;
    world.end().await;
}

#[tokio::test]
async fn many_held_requests_go_on_as_soon_as_one_can_connect() {
    // As many as may be held: to be held again must not refuse any.
    let config = edge::EdgeConfig { max_held: 100, ..config() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |_| {}).await;
    world.hosts.on_wake("m1", OnWake::Late(Duration::from_millis(50)));
    let answers = join_all((0..100).map(|_| world.get("/"))).await;
    let failed = answers.iter().find(|answer| answer.status != 200);
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(world.hosts.calls(), ["wake m1"]);
    assert!(world.metrics().contains("updraft_edge_retries_total 0"), "no failure");
    world.end().await;
}

#[tokio::test]
async fn a_machine_that_cannot_be_connected_to_yet_is_not_idle() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", suspends).await;
    world.hosts.on_wake("m1", OnWake::Late(Duration::from_millis(300)));
    assert_eq!(world.get("/").await.status, 200);
    // A look that comes too early may make it ask again whether the machine runs.
    while !world.hosts.is_suspended("m1") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let calls = world.hosts.calls();
    assert_eq!(calls.iter().filter(|call| *call == "suspend m1").count(), 1, "{calls:?}");
    world.end().await;
}

#[tokio::test]
async fn requests_that_come_while_a_machine_is_being_suspended_make_it_go_on() {
    let world = World::new(fake_one_core()).await;
    let app = world.machine("m1", timed).await;
    world.hosts.change("m1", |r| r.stages_ms = vec![("image".into(), 1.0)]);
    world.hosts.bring_up("m1").await;
    world.hosts.on_wake("m1", OnWake::GoesOn);
    let mut client = Client::new(world.edge).await;
    assert_eq!(client.ask(request("/")).await.status, 200);
    assert_eq!(app.connections.load(SeqCst), 1);
    let slow = client.send(post("/gate", text("not to be sent twice")));
    let suspension = async {
        while app.inside.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        world.hosts.set("m1", RouteState::Stopping, false);
        // Those that come before the edge has heard of it are sent; the rest wake.
        loop {
            assert_eq!(world.get("/").await.status, 200);
            if !world.hosts.calls().is_empty() {
                break;
            }
        }
        let answers = join_all((0..10).map(|_| world.get("/"))).await;
        assert!(answers.iter().all(|a| a.status == 200 && timings(a).is_empty()));
        app.gate.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, suspension);
    assert_eq!(slow.status(), 200, "what was in flight lived on");
    assert_eq!(world.hosts.calls(), ["wake m1"]);
    drop((slow, client));
    world.end().await;
}

#[tokio::test]
async fn resting_connections_are_closed_before_a_machine_goes_down_and_never_used_after() {
    let world = World::new(fake_one_core()).await;
    let app = world.machine("m1", |_| {}).await;
    world.hosts.change("m1", |r| r.stages_ms = vec![("image".into(), 1.0)]);
    world.hosts.bring_up("m1").await;
    world.hosts.on_wake("m1", OnWake::GoesOn);
    let mut client = Client::new(world.edge).await;
    for round in 1..=10 {
        assert_eq!(client.ask(post("/sum", text("abc"))).await.status, 200);
        assert_eq!(app.connections.load(SeqCst), round, "a new one after each suspension");
        world.hosts.set("m1", RouteState::Stopping, false);
        while app.open.load(SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.hosts.set("m1", RouteState::Started, true);
    }
    world.end().await;
}

#[tokio::test]
async fn no_request_fails_however_suspension_races_with_it() {
    let config = edge::EdgeConfig {
        // So that what hangs is told soon, and apart.
        wake_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(10),
        ..config()
    };
    let world = World::new(config).await;
    let _app = world.machine("m1", suspends).await;
    let client = async |seed: usize| {
        let mut client = Client::new(world.edge).await;
        for n in 0..40 {
            let late = Duration::from_millis(n as u64 % 4);
            let what = if n % 3 == 0 { OnWake::Late(late) } else { OnWake::Up };
            world.hosts.on_wake("m1", what);
            let answer = client.ask(post("/sum", text("abc"))).await;
            let calls = world.hosts.calls();
            let last = &calls[calls.len().saturating_sub(6)..];
            assert_eq!(answer.status, 200, "client {seed} request {n}: {} {last:?}", answer.text);
            for _ in 0..(seed * 7 + n * 13) % 40 {
                tokio::task::yield_now().await;
            }
        }
    };
    join_all((0..4).map(client)).await;
    assert!(world.hosts.calls().len() > 20, "{}", world.hosts.calls().len());
    world.end().await;
}

#[tokio::test]
async fn thirty_machines_woken_within_a_second_fail_no_request() {
    let config = edge::EdgeConfig { retry_for: Duration::ZERO, ..config() };
    let world = World::new(config).await;
    let mut apps = Vec::new();
    for n in 0..30u64 {
        let id = format!("m{n}");
        apps.push(world.machine(&id, timed).await);
        world.hosts.on_wake(&id, OnWake::Late(Duration::from_millis(n * 7 % 40)));
        world.hosts.change(&id, |r| (r.app, r.suspended) = (format!("app{n}"), true));
    }
    let began = Instant::now();
    let ask = async |n: u64| {
        tokio::time::sleep_until(began + Duration::from_millis(n * 33)).await;
        let mut req = request("/");
        req.headers_mut().insert("host", format!("app{n}.localhost").parse().unwrap());
        let answer = world.ask(req).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, &*format!("hello from m{n}")));
        assert!(timings(&answer)[0].ends_with(|c: char| c.is_ascii_digit()), "{answer:?}");
    };
    join_all((0..30).map(ask)).await;
    let calls: BTreeSet<_> = world.hosts.calls().into_iter().collect();
    assert_eq!((calls.len(), world.hosts.calls().len()), (30, 30), "each was woken once");
    world.end().await;
}
