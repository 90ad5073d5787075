//! The audit log: what is recorded of which call, and who may read it.

use crate::world::{TOKEN, TestWorld, at, error, world};
use reqwest::Method;
use serde_json::{Value, json};

/// What is recorded, the oldest first: method, route, status and organization.
async fn log(w: &TestWorld, path: &str) -> Vec<String> {
    let (code, page) = w.get(path).await;
    assert_eq!(code, 200, "{page}");
    let entries = page["entries"].as_array().unwrap();
    let shown = |entry: &Value| {
        let (method, route) = (entry["method"].as_str().unwrap(), entry["route"].as_str().unwrap());
        format!("{method} {route} {} {}", entry["status"], entry["org"].as_str().unwrap_or("-"))
    };
    entries.iter().rev().map(shown).collect()
}

async fn make(w: &TestWorld, body: Value) -> String {
    let (code, made) = w.post("/v1/orgs/personal/tokens", body).await;
    assert_eq!(code, 201, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn changes_and_denied_calls_are_recorded_and_reads_are_not() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let token = make(&w, json!({ "type": "readonly", "name": "ci" })).await;
    let ask = async |method: Method, path: &str| {
        let request = w.client.request(method, format!("http://{}{path}", w.addr));
        let request = request.header("authorization", &token).header("user-agent", "x".repeat(500));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(Method::GET, "/v1/apps/web").await, 200);
    assert_eq!(ask(Method::POST, &at(&machine, "/stop")).await, 403);
    assert_eq!(ask(Method::GET, "/v1/platform/hosts").await, 403);
    assert_eq!(w.get("/v1/apps/none").await.0, 404);
    assert_eq!(w.post(&at(&machine, "/exec"), json!({ "cmd": "exit 0" })).await.0, 200);
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
    let expected = [
        "POST /v1/apps 201 personal",
        "POST /v1/apps/{app}/machines 200 personal",
        "POST /v1/orgs/{org}/tokens 201 personal",
        "POST /v1/apps/{app}/machines/{machine}/stop 403 personal",
        "POST /v1/apps/{app}/machines/{machine}/exec 200 personal",
        "DELETE /v1/apps/{app} 202 personal",
    ];
    assert_eq!(log(&w, "/v1/orgs/personal/audit").await, expected);
    let all = log(&w, "/v1/platform/audit").await;
    assert!(all.contains(&"GET /v1/platform/hosts 403 -".to_owned()), "{all:?}");
    let (_, page) = w.get("/v1/orgs/personal/audit").await;
    let denied = &page["entries"][2];
    assert_eq!(
        (&denied["caller"]["token"], &denied["at"]),
        (&json!("ci"), &json!("2023-11-14T22:13:20.000Z"))
    );
    assert_eq!(denied["caller"]["token_id"].as_str().unwrap().len(), 12);
    assert_eq!(denied["user_agent"].as_str().unwrap().len(), 200);
    assert_eq!(denied["path"], at(&machine, "/stop"));
    assert!(!page.to_string().contains(&token));
}

#[tokio::test]
async fn refused_calls_of_one_caller_are_counted_together() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let token = make(&w, json!({ "type": "readonly", "name": "ci" })).await;
    let stop = async || {
        let url = format!("http://{}{}", w.addr, at(&machine, "/stop"));
        let answer = w.client.post(url).header("authorization", &token).send().await.unwrap();
        assert_eq!(answer.status(), 403);
    };
    for _ in 0..30 {
        stop().await;
    }
    let denied = async || {
        let (_, page) = w.get("/v1/orgs/personal/audit?limit=1000").await;
        let entries = page["entries"].as_array().unwrap();
        let denied = entries.iter().filter(|entry| entry["status"] == 403);
        denied.map(|entry| entry["count"].as_u64().unwrap_or(1)).collect::<Vec<_>>()
    };
    assert_eq!(denied().await, [1; 20]);
    w.clock.advance(std::time::Duration::from_secs(60));
    stop().await;
    let all = denied().await;
    assert_eq!((all.len(), all.iter().sum::<u64>()), (22, 31), "{all:?}");
}

#[tokio::test]
async fn of_several_tokens_the_one_that_permits_the_call_is_recorded() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let reader = make(&w, json!({ "type": "readonly", "name": "reader" })).await;
    let deploy = make(&w, json!({ "type": "deploy", "name": "deploy", "app": "web" })).await;
    let header = format!("{reader},{deploy}");
    let ask = async |path: &str| {
        let url = format!("http://{}{path}", w.addr);
        let answer = w.client.post(url).header("authorization", &header).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(ask(&at(&machine, "/stop")).await, 200);
    assert_eq!(ask("/v1/orgs/personal/members").await, 403);
    let (_, page) = w.get("/v1/orgs/personal/audit?limit=2").await;
    assert_eq!(page["entries"][1]["caller"]["token"], "deploy", "{page}");
    assert_eq!(page["entries"][0]["caller"]["token"], "reader,deploy", "{page}");
}

#[tokio::test]
async fn a_call_whose_client_leaves_is_recorded() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    // A command that does not end by itself.
    let url = format!("http://{}{}", w.addr, at(&machine, "/exec"));
    let ask = w.client.post(url).header("authorization", format!("Bearer {TOKEN}"));
    let ask = ask.json(&json!({ "cmd": "sleep" })).send();
    let left = tokio::time::timeout(std::time::Duration::from_millis(200), ask).await;
    assert!(left.is_err(), "it has been answered");
    for _ in 0..500 {
        let entries = log(&w, "/v1/orgs/personal/audit").await;
        if entries.iter().any(|e| e == "POST /v1/apps/{app}/machines/{machine}/exec 499 personal") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it is not recorded");
}

#[tokio::test]
async fn a_new_organization_does_not_see_the_log_of_a_former_one() {
    let w = world().await;
    let create = async || w.post("/v1/orgs", json!({ "name": "acme" })).await.0;
    assert_eq!(create().await, 201);
    assert_eq!(w.post("/v1/orgs/acme/tokens", json!({ "type": "org" })).await.0, 201);
    assert_eq!(log(&w, "/v1/orgs/acme/audit").await.len(), 1);
    assert_eq!(w.delete("/v1/orgs/acme").await.0, 200);
    assert_eq!(create().await, 201);
    assert_eq!(log(&w, "/v1/orgs/acme/audit").await, [""; 0]);
    assert!(log(&w, "/v1/platform/audit").await.len() >= 4);
}

#[tokio::test]
async fn a_token_of_a_machine_is_recorded_with_the_organization() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let body = json!({ "app_name": "web", "machine_id": machine["id"] });
    let made = w.request(Method::POST, "/v1/tokens/oidc").json(&body).send().await.unwrap();
    assert_eq!(made.status(), 200);
    let entries = log(&w, "/v1/orgs/personal/audit").await;
    assert_eq!(entries.last().unwrap(), "POST /v1/tokens/oidc 200 personal");
}

#[tokio::test]
async fn the_log_is_paged_and_is_for_admins() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for n in 0..9 {
        let body = json!({ "value": n.to_string() });
        assert_eq!(w.post(&at(&machine, "/metadata/n"), body).await.0, 204);
    }
    let (mut cursor, mut count) = (String::new(), 0);
    loop {
        let (code, page) = w.get(&format!("/v1/orgs/personal/audit?limit=4{cursor}")).await;
        assert_eq!(code, 200, "{page}");
        count += page["entries"].as_array().unwrap().len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(count, 11);
    for (query, why) in [
        ("limit=0", "limit: must be from 1 to 1000"),
        ("limit=1001", "limit: must be from 1 to 1000"),
        ("cursor=x", "cursor: must be the `next_cursor` of a page"),
    ] {
        let refused = w.get(&format!("/v1/orgs/personal/audit?{query}")).await;
        assert_eq!(error(&refused), (400, why));
    }
    // A member that is no admin does not read it.
    let member = json!({ "email": "ann@example.com", "role": "member" });
    assert_eq!(w.post("/v1/orgs/personal/members", member).await.0, 200);
    let token = make(&w, json!({ "type": "org", "member": "ann@example.com" })).await;
    let url = format!("http://{}/v1/orgs/personal/audit", w.addr);
    let answer = w.client.get(url).header("authorization", &token).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let other = w.post("/v1/orgs", json!({ "name": "acme" })).await;
    assert_eq!(other.0, 201);
    assert_eq!(log(&w, "/v1/orgs/acme/audit").await, [""; 0]);
}
