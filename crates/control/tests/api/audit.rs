//! The audit log: what is recorded of which call, and who may read it.

use crate::world::{TestWorld, at, error, world};
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
