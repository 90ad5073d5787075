//! Machines that are suspended, and how fast and surely they wake.

use crate::fake::*;
use futures_util::future::join_all;
use host_api::RouteState;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::Instant;

/// Suspends a machine the moment it is idle.
pub(crate) fn suspends(s: &mut serde_json::Value) {
    s["autostop"] = "suspend".into();
    s["autostop_after_seconds"] = 0.into();
}

pub(crate) fn timed(s: &mut serde_json::Value) {
    s["server_timing"] = true.into();
}

pub(crate) fn timings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("server-timing").iter().map(|line| line.to_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_machine_is_suspended_and_wakes() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", suspends);
    for round in 1..=5 {
        assert_eq!(world.get("/").await.status, 200);
        assert_eq!(world.host.called(round * 2).await.len(), round * 2);
    }
    assert_eq!(world.host.calls()[..4], ["wake m1", "suspend m1", "wake m1", "suspend m1"]);
    world.host.logged("1 proxy m1 Suspending: idle for 0s").await;
    assert!(!world.host.log_text().contains("Stopping"), "{}", world.host.log_text());
    assert!(
        world
            .metrics()
            .contains("updraft_edge_idle_suspends_total{region=\"local\",host=\"0000\"} 5")
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_suspended_is_stopped_by_the_host_and_wakes() {
    let world = World::new(config()).await;
    world.host.cannot_suspend();
    let _app = world.machine("m1", suspends);
    for round in 1..=3 {
        assert_eq!(world.get("/").await.status, 200);
        world.host.called(round * 2).await;
        assert!(!world.host.is_suspended("m1"));
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_suspension_is_refused_keeps_serving() {
    let config = edge::EdgeConfig { autostop_interval: Duration::from_millis(5), ..config() };
    let world = World::new(config).await;
    world.host.refuse_stops(true);
    let app = world.machine("m1", |s| s["autostop"] = "suspend".into());
    world.host.bring_up("m1");
    let mut client = world.client().await;
    for n in 1..=5 {
        world.host.called(n).await;
        assert_eq!(client.ask(request("/")).await.status, 200);
    }
    assert_eq!(app.requests.load(SeqCst), 5);
    assert_eq!(app.connections.load(SeqCst), 5, "those that rest are closed beforehand");
    assert!(world.host.calls().iter().all(|call| call == "suspend m1"), "never woken");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_is_woken_before_a_stopped_one() {
    let world = World::new(config()).await;
    let mut apps = Vec::new();
    for id in ["m1", "m2", "m3", "m4"] {
        apps.push(world.machine(id, |_| {}));
    }
    world.host.change("m3", |r| r.suspended = true);
    assert_eq!(world.get("/").await.text, "hello from m3");
    assert_eq!(world.host.calls(), ["wake m3"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_nearest_region_is_woken_before_a_suspended_machine_elsewhere() {
    let world = World::new(config()).await;
    let (_near, _far) = (world.machine("near", |_| {}), world.machine("far", |_| {}));
    world.host.change("far", |r| (r.suspended, r.region) = (true, "ams".into()));
    assert_eq!(world.get("/").await.text, "hello from near");
    assert_eq!(world.host.calls(), ["wake near"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_woken_request_shows_where_its_time_went() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", timed);
    world.host.change("m1", |r| {
        r.stages_ms = vec![("image".into(), 1.04), ("to config".into(), 20.0)];
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
    let want = ["edge_decide", "host_image", "host_to_config", "connect", "first_byte", "total"];
    assert_eq!(names, want, "{edges}");
    assert!(edges.contains("host_image;dur=1.0, host_to_config;dur=20.0, "), "{edges}");
    assert_eq!(timings(&world.get("/timed").await), ["db;dur=7"], "it did not wait");
    assert!(timings(&world.get("/").await).is_empty());
    let metrics = world.metrics();
    for stage in ["listening", "connect", "first_byte"] {
        let line = format!(
            r#"updraft_edge_wake_seconds_count{{region="local",host="0000",stage="{stage}"}} 1"#
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn timing_is_sent_only_if_the_service_asks_for_it_and_with_an_answer_of_the_app() {
    let config = edge::EdgeConfig { wake_timeout: Duration::from_millis(50), ..config() };
    let world = World::new(config).await;
    let _off = world.machine("m1", |s| s["server_timing"] = false.into());
    assert_eq!(timings(&world.get("/timed").await), ["db;dur=7"]);
    world.host.take_down("m1");
    let _pristine = world.machine("m1", |s| {
        timed(s);
        s["ports"][0]["http_options"] = serde_json::json!({"response": {"pristine": true}});
    });
    let answer = world.get("/").await;
    assert!(answer.status == 200 && timings(&answer).is_empty(), "{:?}", answer.headers);
    world.host.take_down("m1");
    let _deaf = world.machine("m1", timed);
    world.host.on_wake("m1", OnWake::NeverListens);
    let answer = world.get("/").await;
    assert!(answer.status == 504 && timings(&answer).is_empty(), "{:?}", answer.headers);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_is_refused_after_a_wake_is_tried_again_at_once() {
    // Failures would be given up at once: these are none.
    let config = edge::EdgeConfig { retry_for: Duration::ZERO, ..config() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |_| {});
    for late in [3, 10, 40] {
        let late = Duration::from_millis(late);
        world.host.on_wake("m1", OnWake::Late(late));
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            let answer = world.get("/").await;
            assert_eq!((answer.status, &*answer.text), (200, "hello from m1"));
            assert!(began.elapsed() >= late);
            fastest = fastest.min(began.elapsed());
            world.host.take_down("m1");
        }
        // No pause is longer than all of the wait before it; the rest is for a
        // busy computer.
        assert!(fastest < late * 2 + Duration::from_millis(100), "{late:?} took {fastest:?}");
    }
    assert!(world.host.calls().iter().all(|call| call == "wake m1"));
    assert_eq!(world.host.calls().len(), 15, "no second wake for a refusal");
    assert!(
        world.metrics().contains("updraft_edge_retries_total{region=\"local\",host=\"0000\"} 0"),
        "no failure"
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_wake_wakes_no_other_and_is_answered_when_the_wakes_time_is_over() {
    let config = edge::EdgeConfig {
        wake_timeout: Duration::from_millis(300),
        retry_for: Duration::ZERO,
        still_waiting_every: Duration::from_millis(100),
        ..config()
    };
    let world = World::new(config).await;
    let (_one, _two) = (world.machine("m1", |_| {}), world.machine("m2", |_| {}));
    world.host.change("m1", |r| r.suspended = true);
    world.host.on_wake("m1", OnWake::Late(Duration::from_secs(100)));
    let began = Instant::now();
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (502, "PC01"), "{}", answer.text);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(world.host.calls(), ["wake m1"]);
    world.host.logged("Still waiting for machine to listen on 0.0.0.0:8080").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_held_requests_continue_as_soon_as_one_can_connect() {
    // As many as may be held: to be held again must not refuse any.
    let config = edge::EdgeConfig { max_held: 100, ..config() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::Late(Duration::from_millis(50)));
    let answers = join_all((0..100).map(|_| world.get("/"))).await;
    let failed = answers.iter().find(|answer| answer.status != 200);
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(world.host.calls(), ["wake m1"]);
    assert!(
        world.metrics().contains("updraft_edge_retries_total{region=\"local\",host=\"0000\"} 0"),
        "no failure"
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_cannot_be_connected_to_yet_is_not_idle() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", suspends);
    world.host.on_wake("m1", OnWake::Late(Duration::from_millis(300)));
    assert_eq!(world.get("/").await.status, 200);
    // A look that comes too early may make it ask again whether the machine runs.
    world.host.until_suspended("m1").await;
    let calls = world.host.calls();
    assert_eq!(calls.iter().filter(|call| *call == "suspend m1").count(), 1, "{calls:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_while_a_machine_is_being_suspended_make_it_resume() {
    let world = World::new(config()).await;
    let app = world.machine("m1", timed);
    world.host.change("m1", |r| r.stages_ms = vec![("image".into(), 1.0)]);
    world.host.bring_up("m1");
    world.host.on_wake("m1", OnWake::Resumes);
    let mut client = world.client().await;
    assert_eq!(client.ask(request("/")).await.status, 200);
    assert_eq!(app.connections.load(SeqCst), 1);
    let slow = client.send(post("/gate", text("not to be sent twice")));
    let suspension = async {
        app.until(|app| app.inside.load(SeqCst) > 0).await;
        world.host.set("m1", RouteState::Stopping, false);
        world.host.until_acknowledged().await;
        assert_eq!(world.get("/").await.status, 200);
        assert_eq!(world.host.calls(), ["wake m1"]);
        let answers = join_all((0..10).map(|_| world.get("/"))).await;
        assert!(answers.iter().all(|a| a.status == 200 && timings(a).is_empty()));
        app.gate.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, suspension);
    assert_eq!(slow.status(), 200, "what was in flight lived on");
    assert_eq!(world.host.calls(), ["wake m1"]);
    drop((slow, client));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn resting_connections_are_closed_before_a_machine_goes_down_and_never_used_after() {
    let world = World::new(config()).await;
    let app = world.machine("m1", |_| {});
    world.host.change("m1", |r| r.stages_ms = vec![("image".into(), 1.0)]);
    world.host.bring_up("m1");
    world.host.on_wake("m1", OnWake::Resumes);
    let mut client = world.client().await;
    for round in 1..=10 {
        assert_eq!(client.ask(post("/sum", text("abc"))).await.status, 200);
        assert_eq!(app.connections.load(SeqCst), round, "a new one after each suspension");
        world.host.set("m1", RouteState::Stopping, false);
        app.until(|app| app.open.load(SeqCst) == 0).await;
        world.host.set("m1", RouteState::Started, true);
    }
    world.end().await;
}
