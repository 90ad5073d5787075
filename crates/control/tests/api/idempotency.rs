//! Requests with an idempotency key: carried out once.

use crate::world::{TestWorld, at, error, world};
use host_api::HostError;
use macaroon::{Action, Caveat, Macaroon};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use store::records::{REQUESTS, RequestRecord, Stored, encode, list, request_key};
use store::{Op, Txn};

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
    let range = store::KeyRange::prefix(REQUESTS);
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

#[tokio::test]
async fn a_key_belongs_to_the_tokens_as_they_were_presented() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let path = at(&machine, "/metadata/a");
    let make = async || {
        let body = json!({ "type": "deploy", "app": "web", "macaroon": true });
        let (_, made) = w.post("/v1/orgs/personal/tokens", body).await;
        made["token"].as_str().unwrap().to_owned()
    };
    let set = async |tokens: &str, value: &str| {
        let request = w.client.request(Method::POST, format!("http://{}{path}", w.addr));
        let request = request.header("authorization", format!("FlyV1 {tokens}"));
        let request = request.header("idempotency-key", "k").json(&json!({ "value": value }));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16() < 300, answer.headers().contains_key("idempotency-replayed"))
    };
    let (token, other) = (make().await, make().await);
    assert_eq!(set(&token, "1").await, (true, false));
    assert_eq!(set(&token, "1").await, (true, true));
    // A narrowed macaroon has the same record and is another caller, with keys of its own.
    let mut narrowed = Macaroon::parse(&token).unwrap();
    narrowed.attenuate(Caveat::Action(Action::READ.and(Action::WRITE))).unwrap();
    assert_eq!(set(&narrowed.to_text(), "2").await, (true, false));
    // So have two tokens together, in either order.
    assert_eq!(set(&format!("{token},{other}"), "3").await, (true, false));
    assert_eq!(set(&format!("{other},{token}"), "3").await, (true, true));
}

#[tokio::test]
async fn one_caller_cannot_use_up_the_keys_of_others() {
    let w = world().await;
    w.app().await;
    let create = async |key: &str, body: Value| keyed(&w, Method::POST, MACHINES, key, &body).await;
    assert_eq!(create("k", nginx()).await.0, 200);
    let known: Vec<Stored<RequestRecord>> = list(&*w.store, REQUESTS).await.unwrap();
    let keys: Vec<String> = (1..1000).map(|n| request_key(&format!("{n:064}"))).collect();
    for keys in keys.chunks(50) {
        let put = |key: &String| Op::put(key.clone(), encode(&known[0].record));
        let then = keys.iter().map(put).collect();
        store::Store::txn(&*w.store, Txn { then, ..Txn::default() }).await.unwrap();
    }
    w.reconcile().await;
    let (code, _, refused) = create("new", nginx()).await;
    let why = "1000 requests of this caller with idempotency keys are remembered already";
    assert_eq!(error(&(code, refused)), (429, why));
    assert!(create("k", nginx()).await.1, "what is known is still answered");
    let (_, other) = w.post("/v1/orgs/personal/tokens", json!({ "type": "org" })).await;
    let other = format!("Bearer {}", other["token"].as_str().unwrap());
    let request = w.client.request(Method::POST, format!("http://{}{MACHINES}", w.addr));
    let request = request.header("authorization", other).header("idempotency-key", "k");
    assert_eq!(request.json(&nginx()).send().await.unwrap().status().as_u16(), 200);
    // A request that was refused takes up no place.
    let then = vec![Op::delete(keys[0].clone())];
    store::Store::txn(&*w.store, Txn { then, ..Txn::default() }).await.unwrap();
    w.reconcile().await;
    for _ in 0..2 {
        assert_eq!(create("refused", json!({})).await.0, 400);
    }
    assert_eq!(create("new", nginx()).await.0, 200);
    assert_eq!(create("newer", nginx()).await.0, 429);
}

#[tokio::test]
async fn what_did_nothing_or_only_a_part_is_not_recorded() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let command = json!({ "command": ["echo"] });
    let exec = at(&machine, "/exec");
    w.host.fail_next("exec", HostError::unreachable("no way there"));
    assert_eq!(keyed(&w, Method::POST, &exec, "e", &command).await.0, 503);
    assert_eq!(keyed(&w, Method::POST, &exec, "e", &command).await.0, 200);
    let batch = format!("{MACHINES}/batch");
    let body = json!([nginx(), nginx()]);
    w.host.fail_next("create", HostError::NoCapacity("disk is full".into()));
    assert_eq!(keyed(&w, Method::POST, &batch, "b", &body).await.0, 207);
    let (code, replayed, _) = keyed(&w, Method::POST, &batch, "b", &body).await;
    assert_eq!((code, replayed, w.host.alive().len()), (200, false, 3));
}
