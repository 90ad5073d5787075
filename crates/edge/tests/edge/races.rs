//! Races between requests and machines that go down, with the edge on threads of
//! its own and on real time. They end by counts, not by the clock.

use crate::fake::*;
use crate::suspend::{suspends, timed, timings};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn no_request_fails_however_autostop_races_with_it() {
    let config = edge::EdgeConfig { autostop_interval: Duration::from_millis(1), ..on_threads() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |s| {
        s["autostop"] = true.into();
        s["autostop_after_seconds"] = 0.into();
    });
    let client = async |seed: usize| {
        let mut client = world.client().await;
        for n in 0..60 {
            let req = match n % 2 {
                0 => request("/"),
                _ => post("/sum", text("abc")),
            };
            let answer = client.ask(req).await;
            assert_eq!(answer.status, 200, "client {seed} request {n}: {}", answer.text);
            for _ in 0..(seed * 7 + n * 13) % 40 {
                tokio::task::yield_now().await;
            }
        }
    };
    join_all((0..4).map(client)).await;
    assert!(world.host.calls().len() > 20, "{}", world.host.calls().len());
    world.end().await;
}

#[tokio::test]
async fn stop_and_start_under_load_fail_no_request() {
    let world = World::new(on_threads()).await;
    let app = world.running("m1");
    let load = async |_| {
        let mut client = world.client().await;
        for n in 0..300 {
            let answer = client.ask(request("/")).await;
            assert_eq!(answer.status, 200, "request {n}: {}", answer.text);
        }
    };
    let stops = async {
        for round in 1..=10 {
            app.until(|app| app.requests.load(SeqCst) >= round * 100).await;
            world.host.take_down("m1");
        }
    };
    tokio::join!(join_all((0..4).map(load)), stops);
    world.end().await;
}

#[tokio::test]
async fn no_request_fails_however_suspension_races_with_it() {
    let config = edge::EdgeConfig {
        // So that what hangs is reported soon, and apart.
        wake_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(10),
        ..on_threads()
    };
    let world = World::new(config).await;
    let _app = world.machine("m1", suspends);
    let client = async |seed: usize| {
        let mut client = world.client().await;
        for n in 0..40 {
            let late = Duration::from_millis(n as u64 % 4);
            let what = if n % 3 == 0 { OnWake::Late(late) } else { OnWake::Up };
            world.host.on_wake("m1", what);
            let answer = client.ask(post("/sum", text("abc"))).await;
            let calls = world.host.calls();
            let last = &calls[calls.len().saturating_sub(6)..];
            assert_eq!(answer.status, 200, "client {seed} request {n}: {} {last:?}", answer.text);
            for _ in 0..(seed * 7 + n * 13) % 40 {
                tokio::task::yield_now().await;
            }
        }
    };
    join_all((0..4).map(client)).await;
    assert!(world.host.calls().len() > 20, "{}", world.host.calls().len());
    world.end().await;
}

#[tokio::test]
async fn thirty_machines_woken_within_a_second_fail_no_request() {
    let config = edge::EdgeConfig { retry_for: Duration::ZERO, ..on_threads() };
    let world = World::new(config).await;
    let mut apps = Vec::new();
    for n in 0..30u64 {
        let id = format!("m{n}");
        apps.push(world.machine(&id, timed));
        world.host.on_wake(&id, OnWake::Late(Duration::from_millis(n * 7 % 40)));
        world.host.change(&id, |r| {
            r.app = model::id::AppId(100 + n as u32);
            (r.app_name, r.suspended) = (format!("app{n}").parse().unwrap(), true);
        });
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
    let calls: BTreeSet<_> = world.host.calls().into_iter().collect();
    assert_eq!((calls.len(), world.host.calls().len()), (30, 30), "each was woken once");
    world.end().await;
}
