//! Requests with an idempotency key: carried out once.

use crate::world::{TestWorld, at, error, world};
use host_api::HostError;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Status, whether it is the answer of an earlier request, and JSON.
async fn keyed(
    w: &TestWorld,
    method: Method,
    path: &str,
    key: &str,
    body: &Value,
) -> (u16, bool, Value) {
    let mut request = w.request(method, path).header("idempotency-key", key);
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    let (status, replayed) =
        (answer.status().as_u16(), answer.headers().contains_key("idempotency-replayed"));
    assert_eq!(answer.headers()["fly-request-id"].len(), 26);
    let text = answer.text().await.unwrap();
    (status, replayed, serde_json::from_str(&text).unwrap_or_default())
}

const MACHINES: &str = "/v1/apps/web/machines";

fn nginx() -> Value {
    json!({ "config": { "image": "nginx" } })
}

#[tokio::test]
async fn a_repeated_create_is_one_machine_with_one_answer() {
    let w = world().await;
    w.app().await;
    let (code, replayed, first) = keyed(&w, Method::POST, MACHINES, "k1", &nginx()).await;
    assert_eq!((code, replayed), (200, false), "{first}");
    let again = keyed(&w, Method::POST, MACHINES, "k1", &nginx()).await;
    assert_eq!(again, (200, true, first.clone()));
    assert_eq!(w.host.alive().len(), 1);
    let other = keyed(&w, Method::POST, MACHINES, "k2", &nginx()).await;
    assert_ne!(other.2["id"], first["id"]);
    // The key belongs to the token, method, path and body.
    let named = json!({ "name": "x", "config": { "image": "nginx" } });
    for (method, path, body) in [
        (Method::POST, MACHINES.to_owned(), &named),
        (Method::POST, format!("{MACHINES}?x=1"), &nginx()),
        (Method::POST, at(&first, "/stop"), &Value::Null),
        (Method::DELETE, at(&first, "?force=true"), &Value::Null),
    ] {
        let (code, _, refused) = keyed(&w, method, &path, "k1", body).await;
        let why = "Idempotency-Key: the key was used for another request \
                   (method, path or body differ)";
        assert_eq!(error(&(code, refused)), (400, why));
    }
    assert_eq!(w.host.alive().len(), 2);
    // Reads have no key.
    assert_eq!(keyed(&w, Method::GET, MACHINES, "k1", &Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_second_request_waits_for_the_first() {
    let w = world().await;
    w.app().await;
    let hold = w.host.pause_next("create");
    let body = nginx();
    let ask = || keyed(&w, Method::POST, MACHINES, "k", &body);
    let release = async {
        hold.reached().await;
        hold.release();
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), release);
    assert_eq!((first.0, second.0), (200, 200), "{first:?} {second:?}");
    assert_eq!(first.2["id"], second.2["id"]);
    assert!(first.1 != second.1, "one of them is a repetition");
    assert_eq!(w.host.alive().len(), 1);
}

#[tokio::test]
async fn what_was_refused_is_a_new_try_and_every_write_takes_a_key() {
    let w = world().await;
    w.app().await;
    w.host.fail_next("create", HostError::NoCapacity("disk is full".into()));
    assert_eq!(keyed(&w, Method::POST, MACHINES, "k", &nginx()).await.0, 422);
    let (code, replayed, machine) = keyed(&w, Method::POST, MACHINES, "k", &nginx()).await;
    assert_eq!((code, replayed), (200, false));
    let app = json!({ "app_name": "api" });
    let first = keyed(&w, Method::POST, "/v1/apps", "app", &app).await;
    assert_eq!(first.0, 201, "{first:?}");
    assert_eq!(keyed(&w, Method::POST, "/v1/apps", "app", &app).await, (201, true, first.2));
    let label = json!({ "value": "1" });
    for (method, rest, body) in [
        (Method::POST, "/restart", Value::Null),
        (Method::POST, "/metadata/a", label),
        (Method::POST, "/lease", Value::Null),
        (Method::POST, "", nginx()),
    ] {
        let path = at(&machine, rest);
        let key = format!("key of {rest}");
        if rest.is_empty() {
            w.delete(&format!("{}?nonce={}", at(&machine, "/lease"), lease_of(&w, &machine).await))
                .await;
        }
        let first = keyed(&w, method.clone(), &path, &key, &body).await;
        assert!(first.0 < 300 && !first.1, "{rest}: {first:?}");
        let again = keyed(&w, method, &path, &key, &body).await;
        assert_eq!(again, (first.0, true, first.2), "{rest}");
    }
    let restarts = w.host.calls().iter().filter(|call| call.starts_with("restart")).count();
    assert_eq!(restarts, 1);
    let (_, versions) = w.get(&at(&machine, "/versions")).await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
}

async fn lease_of(w: &TestWorld, machine: &Value) -> String {
    w.get(&at(machine, "/lease")).await.1["nonce"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn after_a_failure_whose_effect_is_not_known_the_repetition_finds_what_was_done() {
    let w = world().await;
    w.app().await;
    let lost = || HostError::Unavailable { message: "cut".into(), may_have_run: true };
    w.host.lose_answer("create", lost());
    w.host.fail_next("machine", lost());
    let first = keyed(&w, Method::POST, MACHINES, "k", &nginx()).await;
    assert_eq!(first.0, 504, "{first:?}");
    assert_eq!(w.host.alive().len(), 1, "it was created all the same");
    let (code, replayed, machine) = keyed(&w, Method::POST, MACHINES, "k", &nginx()).await;
    assert_eq!((code, replayed), (200, false), "{machine}");
    assert_eq!(w.host.alive(), [crate::world::id(&machine)]);
    w.reconcile().await;
    assert_eq!(w.get(&at(&machine, "")).await.0, 200);
    // A delete whose end is not known is done if the machine is gone.
    w.host.fail_next("destroy", lost());
    w.host.fail_next("destroy", lost());
    let path = at(&machine, "?force=true");
    assert_eq!(keyed(&w, Method::DELETE, &path, "d", &Value::Null).await.0, 504);
    let done = keyed(&w, Method::DELETE, &path, "d", &Value::Null).await;
    assert_eq!((done.0, &done.2["ok"]), (200, &json!(true)));
    // A command is never given a second time.
    let machine = w.machine(json!({})).await;
    w.host.fail_next("exec", HostError::Unavailable { message: "cut".into(), may_have_run: true });
    let command = json!({ "command": ["echo"] });
    let path = at(&machine, "/exec");
    let first = keyed(&w, Method::POST, &path, "e", &command).await;
    assert!(first.0 >= 500, "{first:?}");
    let again = keyed(&w, Method::POST, &path, "e", &command).await;
    assert_eq!(again.0, 504, "{again:?}");
}

#[tokio::test]
async fn keys_are_forgotten_after_a_day() {
    let w = world().await;
    w.app().await;
    let (_, _, first) = keyed(&w, Method::POST, MACHINES, "k", &nginx()).await;
    w.clock.advance(Duration::from_secs(23 * 3600));
    w.reconcile().await;
    assert_eq!(keyed(&w, Method::POST, MACHINES, "k", &nginx()).await.2["id"], first["id"]);
    w.clock.advance(Duration::from_secs(3601));
    w.reconcile().await;
    let range = store::KeyRange::prefix(store::records::REQUESTS);
    let left = store::Store::range(&*w.store, range, None, None).await.unwrap();
    assert_eq!(left.entries.len(), 0);
    assert_eq!(
        keyed(&w, Method::POST, MACHINES, "k", &json!({"name": "n", "config": {"image": "nginx"}}))
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn bad_keys_name_the_header() {
    let w = world().await;
    w.app().await;
    let long = "k".repeat(256);
    for key in [" ", "", &long] {
        let (code, _, refused) = keyed(&w, Method::POST, MACHINES, key, &nginx()).await;
        let why = "Idempotency-Key: must be 1 to 255 visible ASCII characters";
        assert_eq!(error(&(code, refused)), (400, why));
    }
    let import = keyed(&w, Method::POST, "/v1/images/import?name=x", "k", &Value::Null).await;
    assert_eq!(import.0, 400, "{import:?}");
    assert_eq!(w.host.alive().len(), 0);
    let large = json!({ "config": { "image": "x".repeat(70_000) } });
    assert_eq!(keyed(&w, Method::POST, MACHINES, "k", &large).await.0, 413);
}
