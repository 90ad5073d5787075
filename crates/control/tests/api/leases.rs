//! Leases over HTTP: shapes, times, nonces, refusals.

use crate::world::{TestWorld, at, error, world};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A call with a nonce in its header.
async fn call(w: &TestWorld, method: Method, path: &str, nonce: &str, body: Value) -> (u16, Value) {
    let mut request = w.request(method, path).header("fly-machine-lease-nonce", nonce);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn one() -> (TestWorld, Value) {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    (w, machine)
}

fn nonce(answer: &Value) -> String {
    answer["data"]["nonce"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_lease_has_the_shape_that_clients_need() {
    let (w, machine) = one().await;
    let lease = at(&machine, "/lease");
    let none = w.get(&lease).await;
    assert_eq!(error(&none).0, 404);
    assert!(error(&none).1.starts_with("lease not found"), "{none:?}");
    let (code, answer) = w.post(&lease, json!({ "ttl": 30, "description": "deploy" })).await;
    assert_eq!((code, &answer["status"]), (200, &json!("success")), "{answer}");
    let data = &answer["data"];
    assert_eq!((&data["owner"], &data["description"]), (&json!("admin"), &json!("deploy")));
    assert_eq!(data["version"], machine["instance_id"]);
    let left = data["expires_at"].as_i64().unwrap() - 1_700_000_000;
    assert!((29..=31).contains(&left), "{left} s");
    assert!(nonce(&answer).len() >= 12 && nonce(&answer).bytes().all(|b| b.is_ascii_hexdigit()));
    // Generated clients read the same fields at the top.
    for field in ["nonce", "expires_at", "owner", "description", "version"] {
        assert_eq!(answer[field], data[field], "{field}");
    }
    assert_eq!(w.get(&lease).await, (200, answer.clone()));
    assert_eq!(w.get(&format!("{lease}/?x=")).await.0, 200);
    // No body at all, and a time in the query.
    let in_query = format!("{lease}?ttl=120");
    let (code, renewed) = call(&w, Method::POST, &in_query, &nonce(&answer), Value::Null).await;
    assert_eq!((code, nonce(&renewed)), (200, nonce(&answer)));
    assert_eq!(renewed["data"]["description"], "deploy", "it is kept");
    assert!(renewed["data"]["expires_at"].as_i64() > data["expires_at"].as_i64());
}

#[tokio::test]
async fn a_lease_guards_every_change_but_labels_signals_and_commands() {
    let (w, machine) = one().await;
    let (_, lease) = w.post(&at(&machine, "/lease"), Value::Null).await;
    let config = json!({ "config": { "image": "nginx" } });
    let guarded = [
        (Method::POST, "", config.clone()),
        (Method::POST, "/start", Value::Null),
        (Method::POST, "/stop", Value::Null),
        (Method::POST, "/suspend", Value::Null),
        (Method::POST, "/restart", Value::Null),
        (Method::POST, "/cordon", Value::Null),
        (Method::POST, "/uncordon", Value::Null),
        (Method::POST, "/lease", Value::Null),
        (Method::DELETE, "?force=true", Value::Null),
    ];
    for (method, rest, body) in &guarded {
        let path = at(&machine, rest);
        for refused in [
            w.call(method.clone(), &path, body.clone()).await,
            call(&w, method.clone(), &path, "0123456789ab", body.clone()).await,
        ] {
            let (code, why) = error(&refused);
            assert_eq!(code, 409, "{method} {rest}: {refused:?}");
            assert!(why.starts_with("lease currently held by admin, expires at 20"), "{why}");
            let hint = refused.1["hint"].as_str().unwrap();
            assert!(hint.contains("`updraft machine leases clear`"), "{hint}");
        }
    }
    for (method, rest, body) in [
        (Method::POST, "/metadata/role", json!({ "value": "primary" })),
        (Method::DELETE, "/metadata/role", Value::Null),
        (Method::POST, "/signal", json!({ "signal": "SIGHUP" })),
        (Method::POST, "/exec", json!({ "command": ["echo"] })),
        (Method::GET, "", Value::Null),
    ] {
        let (code, answer) = w.call(method, &at(&machine, rest), body).await;
        assert!(code < 300, "{rest}: {answer}");
    }
    // Its holder may, with the header or the query.
    let nonce = nonce(&lease);
    assert_eq!(call(&w, Method::POST, &at(&machine, "/cordon"), &nonce, Value::Null).await.0, 200);
    let in_query = format!("/stop?fly-machine-lease-nonce={nonce}");
    assert_eq!(w.post(&at(&machine, &in_query), Value::Null).await.0, 200);
    assert_eq!(call(&w, Method::POST, &at(&machine, ""), &nonce, config).await.0, 200);
}

#[tokio::test]
async fn a_release_needs_the_nonce_and_one_whose_lease_is_gone_is_ignored() {
    let (w, machine) = one().await;
    let lease = at(&machine, "/lease");
    let (_, held) = w.post(&lease, Value::Null).await;
    let without = w.delete(&lease).await;
    let why =
        "fly-machine-lease-nonce: the nonce of the lease is required, as header or in the query";
    assert_eq!(error(&without), (400, why));
    assert_eq!(call(&w, Method::DELETE, &lease, "0123456789ab", Value::Null).await.0, 409);
    let released = call(&w, Method::DELETE, &lease, &nonce(&held), Value::Null).await;
    assert_eq!(released.0, 200);
    assert_eq!(
        (&released.1["status"], &released.1["data"]),
        (&json!("success"), &json!({"ok": true}))
    );
    let again = call(&w, Method::DELETE, &lease, &nonce(&held), Value::Null).await;
    assert_eq!(again.0, 200, "there is none");
    assert_eq!(
        call(&w, Method::POST, &at(&machine, "/stop"), &nonce(&held), Value::Null).await.0,
        200
    );
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_the_next_one_is_another() {
    let (w, machine) = one().await;
    let lease = at(&machine, "/lease");
    let (_, first) = w.post(&lease, json!({ "ttl": 13 })).await;
    w.host.pass_time(Duration::from_secs(12));
    assert_eq!(w.post(&at(&machine, "/stop"), Value::Null).await.0, 409);
    w.host.pass_time(Duration::from_secs(2));
    assert_eq!(w.get(&lease).await.0, 404);
    let (code, second) = w.post(&lease, Value::Null).await;
    assert_eq!(code, 200);
    assert_ne!(nonce(&first), nonce(&second));
    let stale = call(&w, Method::POST, &lease, &nonce(&first), Value::Null).await;
    assert_eq!(stale.0, 409, "another holds it: {stale:?}");
}

#[tokio::test]
async fn a_create_and_an_update_may_lease_the_machine() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "lease_ttl": 300 })).await;
    let held = machine["nonce"].as_str().unwrap().to_owned();
    assert_eq!(w.post(&at(&machine, "/stop"), Value::Null).await.0, 409);
    let (_, shown) = w.get(&at(&machine, "")).await;
    assert!(shown.get("nonce").is_none() && shown.get("lease").is_none(), "{shown}");
    for path in
        [at(&machine, "?include_leases=true"), "/v1/apps/web/machines?include_leases=1".into()]
    {
        let (_, shown) = w.get(&path).await;
        let shown = if shown.is_array() { &shown[0] } else { &shown };
        assert_eq!(shown["lease"]["owner"], "admin", "{shown}");
        assert!(shown["lease"].get("nonce").is_none(), "{shown}");
    }
    let ask = json!({ "config": { "image": "nginx" }, "lease_ttl": 600 });
    let (code, updated) = call(&w, Method::POST, &at(&machine, ""), &held, ask.clone()).await;
    assert_eq!((code, &updated["nonce"]), (200, &json!(held)), "its lease is renewed");
    call(&w, Method::DELETE, &at(&machine, "/lease"), &held, Value::Null).await;
    let (code, updated) = w.post(&at(&machine, ""), ask).await;
    assert_eq!(code, 200);
    assert_ne!(updated["nonce"], json!(held));
    assert_eq!(w.get(&at(&machine, "/lease")).await.1["data"]["nonce"], updated["nonce"]);
}

#[tokio::test]
async fn bad_requests_for_leases_name_the_field() {
    let (w, machine) = one().await;
    let long = "x".repeat(1025);
    for (path, body, why) in [
        ("/lease", json!({ "ttl": 2_592_001 }), "ttl: must be at most 2592000 seconds (30 days)"),
        (
            "/lease",
            json!({ "ttl": -1 }),
            "ttl: invalid value: integer `-1`, expected u64 at line 1 column 9",
        ),
        ("/lease?ttl=x", Value::Null, "ttl: must be a number in range"),
        (
            "/lease?ttl=5",
            json!({ "ttl": 6 }),
            "ttl: is 6 in the body and 5 in the query; send one of them",
        ),
        (
            "/lease",
            json!({ "description": long }),
            "description: must be at most 1024 bytes without control characters",
        ),
        (
            "",
            json!({ "config": { "image": "nginx" }, "lease_ttl": 2_592_001 }),
            "lease_ttl: must be at most 2592000 seconds (30 days)",
        ),
    ] {
        let refused = w.post(&at(&machine, path), body).await;
        assert_eq!(error(&refused), (400, why));
    }
    assert_eq!(w.post("/v1/apps/web/machines/nowhere/lease", Value::Null).await.0, 404);
    assert_eq!(w.get(&at(&machine, "/lease")).await.0, 404, "nothing was granted");
}

#[tokio::test]
async fn destroyed_machines_are_leased_and_the_deletion_of_an_app_does_not_wait() {
    let (w, machine) = one().await;
    assert_eq!(w.delete(&at(&machine, "?force=true")).await.0, 200);
    // Clients repeat a refused request for a lease for a minute.
    assert_eq!(w.post(&at(&machine, "/lease"), Value::Null).await.0, 200);
    let second = w.machine(json!({ "lease_ttl": 300 })).await;
    assert_eq!(w.delete(&at(&second, "?force=true")).await.0, 409);
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
    assert_eq!(w.host.states(), ["destroyed", "destroyed"]);
}

#[tokio::test]
async fn a_lease_whose_answer_was_lost_is_granted_once() {
    let (w, machine) = one().await;
    let lost = host_api::HostError::Unavailable { message: "cut".into(), may_have_run: true };
    w.host.lose_answer("acquire_lease", lost);
    let (code, lease) = w.post(&at(&machine, "/lease"), Value::Null).await;
    assert_eq!(code, 200, "{lease}");
    assert_eq!(w.get(&at(&machine, "/lease")).await.1["data"]["nonce"], lease["data"]["nonce"]);
}
