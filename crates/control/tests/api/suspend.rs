//! Machines that are put down with their memory kept.

use crate::world::{TestWorld, at, error, id, world};
use host_api::Source;
use model::life::Event;
use reqwest::Method;
use serde_json::{Value, json};

/// A suspended machine of the app `web`.
async fn suspended(w: &TestWorld) -> Value {
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    assert_eq!(w.post(&at(&machine, "/suspend"), Value::Null).await.0, 200);
    machine
}

async fn state(w: &TestWorld, machine: &Value) -> Value {
    w.get(&at(machine, "")).await.1["state"].clone()
}

#[tokio::test]
async fn a_machine_is_suspended_and_resumed() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    w.host.hold(true);
    // As flyctl sends it: no body, and the nonce of a lease that is not looked at.
    let asked = w.request(Method::POST, "/v1/apps/web/machines/a/suspend");
    let answer = asked.header("fly-machine-lease-nonce", "6f1e").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "ok": true }));
    let asked = format!("suspend {} by {:?}", id(&machine), Source::User);
    assert_eq!(w.host.calls().pop(), Some(asked));
    assert_eq!(state(&w, &machine).await, "suspending");

    let wait = |more: &str| at(&machine, &format!("/wait?state=suspended{more}"));
    let early = w.get(&wait("&timeout=0")).await;
    assert_eq!(early.0, 408, "{early:?}");
    let of_it = format!("&instance_id={}&timeout=60", machine["instance_id"].as_str().unwrap());
    let path = wait(&of_it);
    let waiting = w.get(&path);
    let saved = async { w.host.apply_events(id(&machine), &[Event::Saved]).unwrap() };
    let ((code, reached), ()) = tokio::join!(waiting, saved);
    assert_eq!((code, &reached["state"]), (200, &json!("suspended")));
    assert_eq!(reached["version"], machine["instance_id"]);
    let other = wait("&instance_id=01AAAAAAAAAAAAAAAAAAAAAAAA&timeout=0");
    assert_eq!(w.get(&other).await.0, 408, "another instance is not suspended");
    assert_eq!(w.get(&at(&machine, "/wait?state=settled&timeout=0")).await.0, 200);

    w.host.hold(false);
    let (_, started) = w.post(&at(&machine, "/start"), Value::Null).await;
    let expected = json!({
        "previous_state": "suspended", "migrated": false, "new_host": "", "resumed": true,
    });
    assert_eq!(started, expected);
    let (_, events) = w.get(&at(&machine, "/events")).await;
    let kinds: Vec<_> = events.as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert!(kinds.contains(&&json!("suspend")), "{kinds:?}");
}

#[tokio::test]
async fn only_what_runs_is_suspended() {
    let w = world().await;
    w.app().await;
    let never = w.machine(json!({ "skip_launch": true })).await;
    let refused = w.post(&at(&never, "/suspend"), Value::Null).await;
    assert_eq!(error(&refused), (409, "a machine that is created cannot be suspended"));
    let machine = w.machine(json!({})).await;
    w.post(&at(&machine, "/stop"), Value::Null).await;
    let refused = w.post(&at(&machine, "/suspend"), Value::Null).await;
    assert_eq!(error(&refused), (409, "a machine that is stopped cannot be suspended"));
    let unknown = w.post("/v1/apps/web/machines/unknown/suspend", Value::Null).await;
    assert_eq!(unknown.0, 404);
}

#[tokio::test]
async fn suspended_machines_are_listed_by_their_state() {
    let w = world().await;
    suspended(&w).await;
    w.machine(json!({ "name": "b" })).await;
    for (query, names) in
        [("suspended", "a"), ("started", "b"), ("stopped", ""), ("stopped,suspended", "a")]
    {
        let (code, list) = w.get(&format!("/v1/apps/web/machines?state={query}")).await;
        let names_of = list.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap());
        assert_eq!(
            (code, names_of.collect::<Vec<_>>().join(" ").as_str()),
            (200, names),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_stop_drops_the_memory() {
    let w = world().await;
    let machine = suspended(&w).await;
    assert_eq!(w.post(&at(&machine, "/stop"), Value::Null).await.0, 200);
    assert_eq!(state(&w, &machine).await, "stopped");
    let (_, started) = w.post(&at(&machine, "/start"), Value::Null).await;
    assert_eq!(
        (&started["previous_state"], &started["resumed"]),
        (&json!("stopped"), &json!(false))
    );
}

#[tokio::test]
async fn a_suspended_machine_is_updated_restarted_and_destroyed_like_a_stopped_one() {
    let w = world().await;
    let machine = suspended(&w).await;
    let (code, _) = w.post(&at(&machine, "/restart"), Value::Null).await;
    assert_eq!((code, state(&w, &machine).await), (200, json!("started")));
    w.post(&at(&machine, "/suspend"), Value::Null).await;
    let update = json!({ "config": { "image": "nginx" }, "skip_launch": true });
    let (code, updated) = w.post(&at(&machine, ""), update).await;
    assert_eq!((code, &updated["state"]), (200, &json!("stopped")), "{updated}");
    w.post(&at(&machine, "/start"), Value::Null).await;
    w.post(&at(&machine, "/suspend"), Value::Null).await;
    assert_eq!(w.delete(&at(&machine, "")).await, (200, json!({ "ok": true })), "without force");
    assert_eq!(state(&w, &machine).await, "destroyed");
    // Nor does it keep its app from being deleted.
    let other = w.machine(json!({})).await;
    w.post(&at(&other, "/suspend"), Value::Null).await;
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
}
