//! Logins of clients, and the page on which they are completed.

use crate::world::{TOKEN, TestWorld, world};
use serde_json::{Value, json};
use std::time::Duration;

/// A login that has begun: its id, and the path of its page.
async fn begin(w: &TestWorld, name: &str) -> (String, String) {
    let url = format!("http://{}/api/v1/cli_sessions", w.addr);
    let ask = json!({ "name": name, "signup": false, "target": "auth", "redirect_port": 1234 });
    let answer = w.client.post(url).json(&ask).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let begun: Value = answer.json().await.unwrap();
    let id = begun["id"].as_str().unwrap().to_owned();
    let page = begun["auth_url"].as_str().unwrap();
    assert_eq!(page, format!("http://{}/login/{id}", w.addr));
    (id, page.to_owned())
}

async fn token_of(w: &TestWorld, id: &str) -> (u16, Value) {
    let url = format!("http://{}/api/v1/cli_sessions/{id}", w.addr);
    let answer = w.client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn give(w: &TestWorld, page: &str, form: &'static str) -> (u16, String) {
    let request = w.client.post(page).header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(form).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_login_is_completed_on_its_page_and_its_token_fetched_once() {
    let w = world().await;
    let (id, page) = begin(&w, "<b>laptop").await;
    assert_eq!(token_of(&w, &id).await.0, 404, "pending");
    let shown = w.client.get(&page).send().await.unwrap();
    assert_eq!(shown.status(), 200);
    assert_eq!(shown.headers()["cache-control"], "no-store");
    let policy = shown.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let html = shown.text().await.unwrap();
    assert!(html.contains("A client on <b>&lt;b&gt;laptop</b>"), "{html}");

    let (code, html) = give(&w, &page, "token=no-such-token").await;
    assert_eq!(code, 200);
    assert!(html.contains("unauthorized: the token is not valid"), "{html}");
    assert_eq!(give(&w, &page, "other=1").await.0, 400);
    assert_eq!(token_of(&w, &id).await.0, 404, "still pending");

    let (code, html) = give(&w, &page, "token=+fm2_test-token%0A").await;
    assert_eq!(code, 200);
    assert!(html.contains("The client is logged in"), "{html}");
    // A second one cannot replace it.
    assert_eq!(give(&w, &page, "token=fm2_test-token").await.0, 404);
    assert_eq!(token_of(&w, &id).await, (200, json!({ "id": id, "access_token": TOKEN })));
    assert_eq!(token_of(&w, &id).await.0, 404, "it is fetched once");
}

#[tokio::test]
async fn logins_end_and_their_number_is_bounded() {
    let w = world().await;
    let (id, page) = begin(&w, "a").await;
    w.clock.advance(Duration::from_secs(15 * 60));
    let (code, body) = token_of(&w, &id).await;
    assert_eq!(code, 404);
    assert!(body["hint"].as_str().unwrap().contains("fly auth login"), "{body}");
    assert_eq!(w.client.get(&page).send().await.unwrap().status(), 404);

    let (_, oldest) = begin(&w, "oldest").await;
    let (_, second) = begin(&w, "second").await;
    for _ in 0..255 {
        begin(&w, "others").await;
    }
    assert_eq!(w.client.get(&oldest).send().await.unwrap().status(), 404);
    assert_eq!(w.client.get(&second).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_password_is_a_token() {
    let w = world().await;
    let log_in = async |password: &str| {
        let attributes = json!({ "email": "a@example.com", "password": password, "otp": "" });
        let url = format!("http://{}/api/v1/sessions", w.addr);
        let ask = json!({ "data": { "attributes": attributes } });
        let answer = w.client.post(url).json(&ask).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let given = json!({ "data": { "attributes": { "access_token": TOKEN } } });
    assert_eq!(log_in(TOKEN).await, (200, given));
    let (code, body) = log_in("wrong").await;
    assert_eq!((code, &body["error"]), (401, &json!("unauthorized: the token is not valid")));
    assert!(!body.to_string().contains("wrong"), "{body}");
    assert_eq!(log_in("").await.0, 400);
}
