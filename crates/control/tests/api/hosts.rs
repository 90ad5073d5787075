//! Two hosts, one of which is away: lists still work, with the content of the records.

use crate::world::{TestWorld, at, error, world_of};
use host_api::{GuestListener, HostError};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::Reach;

/// A machine `a` on host 0 and a machine `b` on host 1.
async fn two() -> (TestWorld, Value, Value) {
    let w = world_of(2).await;
    w.app().await;
    let a = w.machine(json!({ "name": "a" })).await;
    // Host 0 has less free memory now.
    let b = w.machine(json!({ "name": "b" })).await;
    assert_eq!(w.other.as_ref().unwrap().states(), ["started"]);
    (w, a, b)
}

#[tokio::test]
async fn a_list_survives_a_host_that_is_away() {
    let (w, _, b) = two().await;
    // The records have by now what the hosts have answered.
    w.reconcile().await;
    w.other.as_ref().unwrap().set_reach(Reach::Away);
    let (code, list) = w.get("/v1/apps/web/machines").await;
    assert_eq!(code, 200);
    let mut shown: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["name"].as_str().unwrap(), m["host_status"].as_str().unwrap()))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [("a", "ok"), ("b", "unreachable")]);
    let absent = list.as_array().unwrap().iter().find(|m| m["name"] == "b").unwrap().clone();
    assert_eq!((&absent["id"], &absent["instance_id"]), (&b["id"], &b["instance_id"]));
    assert_eq!(absent["incomplete_config"]["image"], "nginx");
    assert!(absent.get("config").is_none());
    assert_eq!(w.get(&at(&b, "")).await.1, absent);
    // States are known to the host only.
    let (_, started) = w.get("/v1/apps/web/machines?state=started").await;
    assert_eq!(started.as_array().unwrap().len(), 1);
    let refused = w.post(&at(&b, "/stop"), Value::Null).await;
    assert_eq!(error(&refused), (503, "host 1 does not answer"));
    assert_eq!(w.get("/v1/platform/hosts").await.1.as_array().unwrap().len(), 1);
    assert_eq!(w.get("/v1/images").await.0, 200);
    let lines = w.request(reqwest::Method::GET, "/v1/apps/web/logs").send().await.unwrap();
    let text = lines.text().await.unwrap();
    assert!(text.contains("The logs of host 1 are missing"), "{text}");
}

#[tokio::test]
async fn machines_go_to_the_hosts_that_answer() {
    let (w, ..) = two().await;
    w.host.set_reach(Reach::Away);
    w.machine(json!({ "name": "c" })).await;
    assert_eq!(w.other.as_ref().unwrap().states().len(), 2);
}

#[tokio::test]
async fn a_host_that_hangs_holds_nothing_up() {
    let (w, ..) = two().await;
    w.other.as_ref().unwrap().set_reach(Reach::Silent);
    let asked = tokio::time::timeout(Duration::from_secs(30), w.get("/v1/apps/web/machines"));
    let (code, list) = asked.await.expect("the host has a deadline");
    let of_b = list.as_array().unwrap().iter().find(|m| m["name"] == "b").unwrap();
    assert_eq!((code, &of_b["host_status"]), (200, &json!("unreachable")));
}

#[tokio::test]
async fn an_app_is_deleted_once_its_last_host_is_back() {
    let (w, ..) = two().await;
    let other = w.other.clone().unwrap();
    other.set_reach(Reach::Away);
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
    assert_eq!(w.host.states(), ["destroyed"], "what can be done is done");
    let taken = w.post("/v1/apps", json!({ "name": "web" })).await;
    assert_eq!(taken.1["status"], "name_taken");
    other.set_reach(Reach::Reachable);
    w.reconcile().await;
    assert_eq!(other.states(), ["destroyed"]);
    assert_eq!(w.post("/v1/apps", json!({ "name": "web" })).await.0, 201);
}

#[tokio::test]
async fn one_item_that_fails_does_not_hold_up_the_others() {
    let (w, ..) = two().await;
    for app in ["first", "second"] {
        w.post("/v1/apps", json!({ "name": app })).await;
    }
    let ask = json!({ "config": { "image": "nginx" } });
    w.post("/v1/apps/first/machines", ask).await;
    for app in ["first", "second"] {
        w.host.fail_next("destroy", HostError::Internal("stuck".into()));
        let stuck = || HostError::Internal("stuck".into());
        w.other.as_ref().unwrap().fail_next("destroy", stuck());
        assert_eq!(w.delete(&format!("/v1/apps/{app}")).await.0, 202);
    }
    w.reconcile().await;
    assert_eq!(w.post("/v1/apps", json!({ "name": "second" })).await.0, 201);
}

#[tokio::test]
async fn a_host_that_cannot_take_a_machine_now_leaves_it_to_the_next() {
    let (w, ..) = two().await;
    let other = w.other.as_ref().unwrap();
    for (at, refusal) in [
        HostError::Busy("too many creates".into()),
        HostError::unreachable("it is away"),
        HostError::NoCapacity("the disk is full".into()),
    ]
    .into_iter()
    .enumerate()
    {
        // It has the most free memory, and is asked first.
        w.host.fail_next("create", refusal);
        w.machine(json!({ "name": format!("more-{at}") })).await;
        assert_eq!((w.host.alive().len(), other.alive().len()), (1, 2 + at));
    }
}

#[tokio::test]
async fn labels_of_machines_of_an_absent_host_are_filtered_by_their_records() {
    let w = world_of(2).await;
    w.app().await;
    for (name, role) in [("a", "db"), ("b", "db"), ("c", "web"), ("d", "web")] {
        let config = json!({ "image": "nginx", "metadata": { "role": role } });
        w.machine(json!({ "name": name, "config": config })).await;
    }
    let other = w.other.as_ref().unwrap();
    assert_eq!((w.host.states().len(), other.states().len()), (2, 2));
    other.set_reach(Reach::Away);
    let names = async |query: &str| {
        let (code, list) = w.get(&format!("/v1/apps/web/machines?{query}")).await;
        assert_eq!(code, 200);
        let names = list.as_array().unwrap().iter();
        let mut names: Vec<_> = names.map(|m| m["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("metadata.role=db").await, ["a", "b"]);
    assert_eq!(names("metadata.role=none").await, Vec::<String>::new());
    assert_eq!(names("").await, ["a", "b", "c", "d"]);
    let (of_one, of_other) = (names("host=0").await, names("host=1").await);
    assert_eq!((of_one.len(), of_other.len()), (2, 2));
    assert!(of_one.iter().all(|name| !of_other.contains(name)));
    assert_eq!(w.get("/v1/apps/web/machines?host=x").await.0, 400);
}

#[tokio::test]
async fn a_host_cannot_pass_for_machines_of_another() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (w, a, _) = two().await;
    let id = crate::world::id(&a);
    let other = w.other.as_ref().unwrap();
    control::guest_api::GuestApi::new(&w.api).start(w.hosts.clone());
    for (host, answered) in [(&w.host, true), (other, false)] {
        host.until(testkit::FakeHost::takes_guests).await;
        let mut guest =
            host.connect_as(id, model::id::AppId(1), GuestListener::Socket).await.unwrap();
        let path = at(&a, "");
        let ask = format!("GET {path} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n");
        // It may have been closed by now.
        let _ = guest.write_all(ask.as_bytes()).await;
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.contains("200 OK"), answered, "{answer}");
    }
}

#[tokio::test]
async fn a_followed_log_continues_when_its_host_is_back() {
    use futures_util::StreamExt;
    let (w, a, _) = two().await;
    let id = crate::world::id(&a);
    let now = w.clock.now_ns();
    let query = wire::logs::LogQuery::default();
    let items = control::logs::follow(&w.platform, "web", query, None).await.unwrap();
    let mut lines = items.filter_map(async |item| item.line).boxed();
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(20), lines.next());
        next.await.expect("a line comes").expect("the stream is open").message
    };
    w.host.print(id, now + 1, "one");
    assert_eq!(next().await, "one");
    w.host.restart_worker();
    let gap = next().await;
    assert!(gap.contains("The logs of host 0 are missing"), "{gap}");
    w.host.print(id, now + 2, "two");
    w.host.print(id, now + 3, "three");
    assert_eq!((next().await.as_str(), next().await.as_str()), ("two", "three"));
}
