//! Logs: searched, paged, and followed as events that are resumed by id.

use crate::watch::watch;
use crate::world::{TestWorld, error, id, world, world_of};
use reqwest::Method;
use serde_json::{Value, json};

/// The messages of an answer in lines.
async fn lines(w: &TestWorld, query: &str) -> Vec<String> {
    let path = format!("/v1/apps/web/logs{query}");
    let answer = w.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{query}");
    let text = answer.text().await.unwrap();
    let message = |line| serde_json::from_str::<Value>(line).unwrap()["message"].clone();
    text.lines().map(|line| message(line).as_str().unwrap().to_owned()).collect()
}

fn messages(page: &Value) -> Vec<&str> {
    let lines = page["data"].as_array().unwrap().iter();
    lines.map(|line| line["attributes"]["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lines_are_searched_by_text_level_and_time() {
    let w = world().await;
    w.app().await;
    let machine = id(&w.machine(json!({ "name": "a" })).await);
    let now = w.clock.now_ns();
    let minute = 60_000_000_000;
    w.host.print(machine, now - 90 * minute, "Error: long ago");
    w.host.print(machine, now - minute, "all is well");
    w.host.print(machine, now - minute + 1, "error: just now");
    let line = |level: &str| host_api::LogLine {
        app: model::id::AppId(1),
        machine: None,
        provider: "proxy".into(),
        level: level.into(),
        message: format!("of level {level}"),
    };
    host_api::Logs::append(&w.host, line("error"));
    host_api::Logs::append(&w.host, line("warn"));
    assert_eq!(
        lines(&w, "?q=ERROR").await,
        ["Error: long ago", "error: just now", "of level error"]
    );
    let since = ["error: just now", "of level error"];
    assert_eq!(lines(&w, "?q=error&since=1h").await, since);
    let time = rt::clock::rfc3339(((now - minute) / 1_000_000) as u64);
    assert_eq!(lines(&w, &format!("?q=error&since={time}")).await, since);
    assert_eq!(lines(&w, "?q=error&since=1h&tail=1").await, ["of level error"]);
    assert_eq!(lines(&w, "?level=warn,error").await, ["of level error", "of level warn"]);
    assert_eq!(lines(&w, "?level=warning").await, ["of level warn"]);
    assert_eq!(lines(&w, "?since=0s&region=local").await, ["of level error", "of level warn"]);
    let (_, page) = w.get("/api/v1/apps/web/logs?q=error&since=2h&limit=2").await;
    assert_eq!(messages(&page), ["Error: long ago", "error: just now"]);
    let token = page["meta"]["next_token"].as_str().unwrap();
    let (_, rest) = w.get(&format!("/api/v1/apps/web/logs?q=error&next_token={token}")).await;
    assert_eq!(messages(&rest), ["of level error"]);
}

#[tokio::test]
async fn values_that_are_wrong_are_refused_by_their_names() {
    let w = world().await;
    w.app().await;
    let long = "x".repeat(1025);
    for (query, field) in [
        ("level=fatal", "level"),
        ("since=yesterday", "since"),
        ("since=-1h", "since"),
        ("since=1h&after=5", "since"),
        ("after=x", "after"),
        ("tail=10001", "tail"),
        ("tail=-1", "tail"),
        ("follow=maybe", "follow"),
        ("region=no%20region", "region"),
        ("last_event_id=x", "Last-Event-ID"),
        (&format!("q={long}"), "q"),
    ] {
        let refused = w.get(&format!("/v1/apps/web/logs?{query}")).await;
        let (status, text) = error(&refused);
        assert_eq!((status, text.split(':').next()), (400, Some(field)), "{query}: {text}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("next_token=x", "next_token"),
        ("next_token=-5", "next_token"),
        ("level=fatal", "level"),
        ("since=yesterday", "since"),
    ] {
        let refused = w.get(&format!("/api/v1/apps/web/logs?{query}")).await;
        let (status, text) = error(&refused);
        assert_eq!((status, text.split(':').next()), (400, Some(field)), "{query}: {text}");
    }
    assert_eq!(w.get("/v1/apps/web/logs?instance=nowhere").await.0, 404);
    assert_eq!(w.get("/v1/apps/gone/logs").await.0, 404);
}

#[tokio::test]
async fn everything_since_a_time_is_sent_however_much_it_is() {
    let w = world().await;
    w.app().await;
    let machine = id(&w.machine(json!({})).await);
    for n in 1..=25_000 {
        w.host.print(machine, n, &n.to_string());
    }
    let all = lines(&w, "?after=0").await;
    assert!(
        all.iter().map(String::as_str).eq((1..=25_000).map(|n| n.to_string()).collect::<Vec<_>>())
    );
    assert_eq!(lines(&w, "?tail=2").await, ["24999", "25000"]);
}

#[tokio::test]
async fn events_are_resumed_by_their_id_without_a_gap_or_a_repetition() {
    let w = world_of(2).await;
    w.app().await;
    let a = id(&w.machine(json!({ "name": "a" })).await);
    let b = id(&w.machine(json!({ "name": "b" })).await);
    let other = w.other.clone().unwrap();
    w.host.print(a, 1, "a1");
    other.print(b, 2, "b1");
    let path = "/v1/apps/web/logs?tail=10";
    let mut first = watch(&w, path, None).await;
    let mut got = [first.next().await.data, first.next().await.data];
    got.sort_by_key(|line| line["message"].to_string());
    assert_eq!([&got[0]["message"], &got[1]["message"]], ["a1", "b1"]);
    w.host.print(a, 10, "a2");
    let event = first.next().await;
    assert_eq!((event.id.as_str(), &event.data["message"]), ("0.10-1.2", &json!("a2")));
    drop(first);
    // Also a line that is older than those of the other host.
    other.print(b, 5, "b2");
    w.host.print(a, 11, "a3");
    let mut second = watch(&w, path, Some(&event.id)).await;
    let mut got = [second.next().await.data, second.next().await.data];
    got.sort_by_key(|line| line["message"].to_string());
    assert_eq!([&got[0]["message"], &got[1]["message"]], ["a3", "b2"]);
    other.print(b, 12, "b3");
    let event = second.next().await;
    assert_eq!((event.id.as_str(), &event.data["message"]), ("0.11-1.12", &json!("b3")));
    // The worker of a host is started again: a notice, and then the rest.
    other.restart_worker();
    let notice = second.next().await;
    assert!(notice.data["message"].as_str().unwrap().contains("of host 1 are missing"));
    assert_eq!(notice.id, event.id, "a notice is no place");
    other.print(b, 13, "b4");
    assert_eq!(second.next().await.data["message"], "b4");
}

#[tokio::test]
async fn tokens_of_pages_are_places_on_each_host() {
    let w = world_of(2).await;
    w.app().await;
    let a = id(&w.machine(json!({ "name": "a" })).await);
    let b = id(&w.machine(json!({ "name": "b" })).await);
    let other = w.other.clone().unwrap();
    let (_, empty) = w.get("/api/v1/apps/web/logs").await;
    assert_eq!(empty, json!({ "data": [], "meta": { "next_token": "" } }));
    w.host.print(a, 10, "a1");
    let (_, page) = w.get("/api/v1/apps/web/logs?next_token=").await;
    assert_eq!((messages(&page), &page["meta"]["next_token"]), (vec!["a1"], &json!("0.10-1.0")));
    // Of a slow host, and older than what was read of the other one.
    other.print(b, 7, "b1");
    let (_, page) = w.get("/api/v1/apps/web/logs?next_token=0.10-1.0").await;
    assert_eq!((messages(&page), &page["meta"]["next_token"]), (vec!["b1"], &json!("0.10-1.7")));
    // A host that is away keeps its place, and is reported once.
    other.set_reach(testkit::Reach::Away);
    let (_, first) = w.get("/api/v1/apps/web/logs").await;
    assert!(messages(&first)[0].contains("of host 1 are missing"), "{first}");
    let (_, page) = w.get("/api/v1/apps/web/logs?next_token=0.10-1.7").await;
    assert_eq!(page, json!({ "data": [], "meta": { "next_token": "0.10-1.7" } }));
    other.print(b, 8, "b2");
    other.set_reach(testkit::Reach::Reachable);
    let (_, page) = w.get("/api/v1/apps/web/logs?next_token=0.10-1.7").await;
    assert_eq!(messages(&page), ["b2"]);
}

#[tokio::test]
async fn a_page_without_a_line_waits_a_moment_for_one() {
    let w = world().await;
    w.app().await;
    let machine = id(&w.machine(json!({})).await);
    w.host.print(machine, 5, "old");
    let path = "/api/v1/apps/web/logs?next_token=5";
    let print = async {
        w.host.until(testkit::FakeHost::follows_logs).await;
        w.host.print(machine, 6, "new");
    };
    let ((_, page), ()) = tokio::join!(w.get(path), print);
    assert_eq!(messages(&page), ["new"]);
}

#[tokio::test]
async fn many_that_poll_are_all_sent_a_new_line() {
    let w = world().await;
    w.app().await;
    let machine = id(&w.machine(json!({})).await);
    w.host.print(machine, 5, "old");
    let polls = (0..100).map(|_| w.get("/api/v1/apps/web/logs?next_token=5"));
    let print = async {
        w.host.until(testkit::FakeHost::follows_logs).await;
        w.host.print(machine, 6, "new");
    };
    let (pages, ()) = tokio::join!(futures_util::future::join_all(polls), print);
    for (code, page) in pages {
        assert_eq!((code, messages(&page)), (200, vec!["new"]), "{page}");
    }
}
