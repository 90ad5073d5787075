//! What hosts send to the edge, and what it asks of them.

use crate::fake::*;
use edge::{AdmissionRequest, Refusal};
use host_api::{Deadline, RouteState, WakeRefused};
use model::id::{Epoch, HostId};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn an_app_without_machines_is_503_and_a_name_without_app_404() {
    let world = World::new(config()).await;
    let of = |host: &str| hyper::Request::get("/").header("host", host).body(empty()).unwrap();
    assert_eq!(world.ask(of("empty.localhost")).await.code(), (503, "PR01"));
    world.host.logged("7 proxy - [PR01] the app has no machines").await;
    assert_eq!(world.ask(of("empty.localhost")).await.code(), (503, "PR01"));
    assert_eq!(world.host.log_text().lines().count(), 1, "a line a second at most");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.ask(of("empty.localhost")).await.code(), (503, "PR01"));
    assert_eq!(world.host.log_text().lines().count(), 2);
    assert_eq!(world.ask(of("other.localhost")).await.code(), (404, "UR01"));
    assert_eq!(world.host.log_text().lines().count(), 2, "there is no such app");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn texts_name_the_internal_port_and_what_is_not_served() {
    let config = edge::EdgeConfig { wake_timeout: Duration::from_secs(1), ..config() };
    let world = World::new(config).await;
    let _app = world.machine("m1", |_| {});
    world.host.on_wake("m1", OnWake::NeverListens);
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (504, "PM03"));
    assert!(answer.text.contains("internal port 8080 (0.0.0.0:8080)"), "{}", answer.text);
    assert!(!answer.text.contains("port 80 "), "{}", answer.text);
    world.host.change("m1", |r| r.services[0].ports.as_mut().unwrap()[0].handlers = None);
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (404, "UR02"));
    let text = "internal port 8080 (tcp, raw TCP, which is not served yet) on port 80";
    assert!(answer.text.contains(text), "{}", answer.text);
    world.host.logged("1 proxy - [UR02]").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn two_hosts_keep_their_machines_apart() {
    let world = World::new(config()).await;
    let _one = world.running("m1");
    let second = world.add_host(2);
    let _two = world.machine_of(&second, "m2", |_| {});
    second.bring_up("m2");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut seen = [0, 0];
    for _ in 0..64 {
        let answer = world.get("/").await;
        assert_eq!(answer.status, 200);
        seen[usize::from(answer.text == "hello from m2")] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    // Another start of one worker, whose table is empty at first.
    world.host.remove("m1");
    world.host.restart_worker();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..8 {
        assert_eq!(world.get("/").await.text, "hello from m2");
    }
    world.hosts.send_modify(|all| all.retain(|host| host.id == HostId(0)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.get("/").await.code(), (404, "UR01"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_called_in_another_way_is_followed_again() {
    let world = World::new(config()).await;
    let _one = world.running("m1");
    assert_eq!(world.get("/").await.text, M1);
    // Its number, another address. The new table is that of a younger worker.
    let other = std::sync::Arc::new(Host::new(0));
    let app = world.machine_of(&other, "m1", |_| {});
    other.bring_up("m1");
    let same = world.hosts.borrow().clone();
    world.hosts.send_replace(same);
    world.host.settle().await;
    assert_eq!(app.connections.load(SeqCst), 0, "the same list changes nothing");
    let changed = edge::ports::EdgeHost::new(HostId(0), other.clone());
    world.hosts.send_replace(vec![changed]);
    other.until_acknowledged().await;
    assert_eq!(world.get("/").await.text, M1);
    assert_eq!(app.connections.load(SeqCst), 1, "it is reached at the new address");
    // What the former client still receives changes nothing.
    world.host.remove("m1");
    world.host.settle().await;
    assert_eq!(world.get("/").await.text, M1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_about_an_app_goes_to_a_host_that_can_be_reached() {
    let (world, second) = on_two_hosts().await;
    for (host, machine) in [(&world.host, "m1"), (&second, "m2")] {
        host.change(machine, |r| r.services[0].ports.as_mut().unwrap()[0].handlers = None);
        host.until_acknowledged().await;
    }
    assert_eq!(world.get("/").await.code(), (404, "UR02"));
    world.host.logged("1 proxy - [UR02]").await;
    world.host.go_away();
    world.host.end_subscriptions();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.get("/").await.code(), (404, "UR02"));
    second.logged("1 proxy - [UR02]").await;
    world.end().await;
}

/// Two hosts with a machine each, both up.
async fn on_two_hosts() -> (World, std::sync::Arc<Host>) {
    let world = World::new(config()).await;
    world.running("m1");
    let second = world.add_host(2);
    world.machine_of(&second, "m2", |_| {});
    second.bring_up("m2");
    second.until_acknowledged().await;
    (world, second)
}

/// The machines that answer 20 requests, and the longest that one of them takes.
async fn answered(world: &World) -> (BTreeSet<String>, Duration) {
    let (mut by, mut longest) = (BTreeSet::new(), Duration::ZERO);
    for _ in 0..20 {
        let began = Instant::now();
        let answer = world.get("/").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        by.insert(answer.text);
        longest = longest.max(began.elapsed());
    }
    (by, longest)
}

const M1: &str = "hello from m1";
const M2: &str = "hello from m2";

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_costs_one_connect_and_is_then_passed_over() {
    let (world, second) = on_two_hosts().await;
    second.go_away();
    tokio::time::advance(Duration::from_millis(2)).await;
    let (by, longest) = answered(&world).await;
    assert_eq!((by, longest.as_secs()), ([M1.to_owned()].into(), 4), "one request has waited");
    let (by, longest) = answered(&world).await;
    assert_eq!((by, longest), ([M1.to_owned()].into(), Duration::ZERO));
    second.come_back();
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(answered(&world).await.0, [M1.to_owned(), M2.to_owned()].into());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_without_a_route_stream_is_the_last_choice_until_it_is_back() {
    let (world, second) = on_two_hosts().await;
    second.go_away();
    second.end_subscriptions();
    tokio::time::advance(Duration::from_millis(2)).await;
    let (by, longest) = answered(&world).await;
    assert_eq!((by, longest), ([M1.to_owned()].into(), Duration::ZERO));
    // One is woken elsewhere rather than asked for there.
    world.host.take_down("m1");
    assert_eq!(world.get("/").await.text, M1);
    assert_eq!(world.host.calls(), ["wake m1"]);
    // What was last known may still be right, and is all there is.
    world.host.remove("m1");
    world.host.settle().await;
    let began = Instant::now();
    let last = tokio::join!(world.get("/"), async { second.come_back() }).0;
    assert_eq!((last.text.as_str(), began.elapsed()), (M2, Duration::ZERO));
    // It is followed again after the longest pause.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _one = world.running("m1");
    world.host.until_acknowledged().await;
    assert_eq!(answered(&world).await.0, [M1.to_owned(), M2.to_owned()].into());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_host_that_is_lost_wakes_another_at_once() {
    let world = World::new(config()).await;
    let _one = world.machine("m1", |_| {});
    let second = world.add_host(2);
    let _two = world.machine_of(&second, "m2", |_| {});
    second.change("m2", |route| route.suspended = true);
    second.on_wake("m2", OnWake::Gated(Default::default()));
    second.until_acknowledged().await;
    let request = async { (world.get("/").await.text, Instant::now()) };
    let loss = async {
        assert_eq!(second.called(1).await, ["wake m2"], "it would wake faster");
        second.go_away();
        second.end_subscriptions();
        Instant::now()
    };
    let ((answer, answered), lost) = tokio::join!(request, loss);
    assert_eq!((answer.as_str(), answered - lost), (M1, Duration::ZERO));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn autostop_keeps_a_machine_that_can_be_reached() {
    let world = World::new(config()).await;
    let tune = |service: &mut serde_json::Value| {
        service["autostop"] = "stop".into();
        service["min_machines_running"] = 1.into();
    };
    let _one = world.machine("m1", tune);
    world.host.bring_up("m1");
    let second = world.add_host(2);
    let _two = world.machine_of(&second, "m2", tune);
    second.bring_up("m2");
    second.until_acknowledged().await;
    second.go_away();
    second.end_subscriptions();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(world.host.calls().is_empty(), "{:?}", world.host.calls());
    second.come_back();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.host.calls().len() + second.calls().len(), 1, "one of two is kept");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_moves_is_served_by_its_new_owner_alone() {
    let world = World::new(config()).await;
    let old = world.running("m1");
    assert_eq!(world.get("/").await.status, 200);
    let second = world.add_host(2);
    let new = world.machine_of(&second, "m1", |_| {});
    second.change("m1", |r| r.epoch = Epoch(2));
    second.bring_up("m1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = old.requests.load(SeqCst);
    for _ in 0..8 {
        assert_eq!(world.get("/").await.status, 200);
    }
    // The former owner does not know yet, and then gives the machine up.
    world.host.change("m1", |r| r.cordoned = true);
    assert_eq!(world.get("/").await.status, 200);
    world.host.remove("m1");
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!((old.requests.load(SeqCst), new.requests.load(SeqCst)), (before, 10));
    assert_eq!(old.open.load(SeqCst), 0, "connections to the former boot are cut");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn changes_are_acknowledged() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    world.host.until_acknowledged().await;
    world.host.set("m1", RouteState::Stopping, false);
    world.host.until_acknowledged().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_idle_for_a_whole_interval_before_it_is_stopped() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |s| s["autostop"] = "stop".into());
    world.host.bring_up("m1");
    let began = Instant::now();
    // Used every half minute, over several intervals.
    for _ in 0..10 {
        assert_eq!(world.get("/").await.status, 200);
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert!(world.host.calls().is_empty(), "it was in use: {:?}", world.host.calls());
    world.host.called(1).await;
    let idle = (began.elapsed() - Duration::from_secs(270)).as_secs();
    assert!((60..=120).contains(&idle), "stopped after {idle} s");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_machine_is_not_stopped_within_its_first_interval() {
    let world = World::new(config()).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    let _app = world.machine("m1", |s| s["autostop"] = "stop".into());
    world.host.bring_up("m1");
    let began = Instant::now();
    world.host.called(1).await;
    assert!(began.elapsed() >= Duration::from_secs(60), "{:?}", began.elapsed());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_keep_a_machine_up() {
    let world = World::new(config()).await;
    for (name, after) in [("m1", None), ("m2", Some(0)), ("m3", Some(5))] {
        world.machine(name, |s| {
            s["autostop"] = "stop".into();
            s["autostop_after_seconds"] = after.into();
        });
        world.host.set_sessions(name, 1);
        world.host.bring_up(name);
    }
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert!(world.host.calls().is_empty(), "{:?}", world.host.calls());
    ["m1", "m2", "m3"].iter().for_each(|name| world.host.set_sessions(name, 0));
    let began = Instant::now();
    world.host.called(3).await;
    assert!(began.elapsed() >= Duration::from_secs(60), "one of them has no seconds of its own");
    let mut calls = world.host.calls();
    calls.sort();
    assert_eq!(calls, ["stop m1", "stop m2", "stop m3"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn autostop_looks_only_at_apps_that_change() {
    let world = World::new(config()).await;
    for n in 0..100u32 {
        let name = format!("m{n}");
        world.machine(&name, |s| s["autostop"] = "stop".into());
        world.host.change(&name, |r| {
            r.app = model::id::AppId(100 + n);
            r.app_name = format!("app{n}").parse().unwrap();
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let looks = || {
        let metrics = world.metrics();
        let line = metrics.lines().find(|l| l.starts_with("updraft_edge_idle_checks_total"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = looks();
    for _ in 0..10 {
        world.host.change("m7", |r| r.cordoned = !r.cordoned);
        world.host.settle().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = looks() - before;
    assert!((1..=10).contains(&after), "{after} looks for 10 changes of one app");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_stop_is_tried_again_later_and_not_at_once() {
    let world = World::new(config()).await;
    world.host.refuse_stops(true);
    let _app = world.machine("m1", |s| {
        s["autostop"] = "stop".into();
        s["autostop_after_seconds"] = 0.into();
    });
    world.host.bring_up("m1");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let calls = world.host.calls().len();
    assert!((2..=11).contains(&calls), "{calls} in 10 s");
    assert_eq!(world.get("/").await.status, 200);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_edge_is_admitted_or_refused_with_a_type() {
    let world = World::new(config()).await;
    let _app = world.machine("m1", |s| {
        s["concurrency"] = serde_json::json!({"type": "requests", "hard_limit": 1});
    });
    world.host.change("m1", |r| r.epoch = Epoch(3));
    world.host.settle().await;
    let admission = world.edge.admission();
    let request = AdmissionRequest {
        app: "web".into(),
        machine: id("m1"),
        host: HostId(0),
        ownership: Epoch(3),
        port: 80,
    };
    let refused = |request: &AdmissionRequest| admission.admit(request).unwrap_err();
    assert_eq!(refused(&request), Refusal::RecentlyStopped);
    let deadline = || Deadline::within(Duration::from_secs(5));
    admission.wake(&request, deadline()).await.unwrap();
    world.host.settle().await;
    assert_eq!(world.host.calls(), ["wake m1"]);
    let permit = admission.admit(&request).unwrap();
    assert_eq!(refused(&request), Refusal::AtLimit);
    drop(permit);
    assert!(admission.admit(&request).is_ok());
    let stale = AdmissionRequest { ownership: Epoch(2), ..request.clone() };
    assert_eq!(refused(&stale), Refusal::Stale { known: Epoch(3) });
    let elsewhere = AdmissionRequest { host: HostId(9), ..request.clone() };
    assert_eq!(refused(&elsewhere), Refusal::NotMine(HostId(0)));
    let gone = AdmissionRequest { machine: id("m9"), ..request.clone() };
    assert_eq!(refused(&gone), Refusal::Gone);
    assert_eq!(admission.wake(&gone, deadline()).await, Err(WakeRefused::Gone));
    world.host.set("m1", RouteState::Starting, false);
    world.host.settle().await;
    assert_eq!(refused(&request), Refusal::NotReady);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_syn_after_a_wake_costs_milliseconds() {
    let world = World::new(config()).await;
    let app = world.machine("m1", |_| {});
    app.lost_connects.store(2, SeqCst);
    let began = Instant::now();
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!(began.elapsed(), Duration::from_millis(20 + 40));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_connects_to_a_machine_that_goes_down_waits_for_its_next_start() {
    let world = World::new(config()).await;
    let app = world.machine("m1", |_| {});
    app.lost_connects.store(1_000, SeqCst);
    let down = async {
        world.host.called(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        app.lost_connects.store(0, SeqCst);
        world.host.take_down("m1");
    };
    let began = Instant::now();
    let (answer, ()) = tokio::join!(world.get("/"), down);
    assert_eq!(answer.status, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.end().await;
}
