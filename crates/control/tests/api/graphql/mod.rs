//! `POST /graphql`: the documents of Fly's command line client, and requests that are refused.

mod documents;
mod mutations;
mod peers;
mod reads;
mod refused;

use crate::world::{TOKEN, TestWorld};
use reqwest::header;
use serde_json::{Value, json};

/// The answer to a body, whose status is 200 in any case.
async fn send(w: &TestWorld, token: &str, body: String) -> Value {
    let url = format!("http://{}/graphql", w.addr);
    let request = w.client.post(url).header("content-type", "application/json").body(body);
    let request = match token {
        "" => request,
        token => request.header(header::AUTHORIZATION, token),
    };
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["fly-request-id"].len(), 26);
    answer.json().await.unwrap()
}

/// The answer to a document with variables.
async fn ask(w: &TestWorld, token: &str, query: &str, variables: Value) -> Value {
    send(w, token, json!({ "query": query, "variables": variables }).to_string()).await
}

/// The same with the admin token: `data` of an answer without errors.
async fn data(w: &TestWorld, query: &str, variables: Value) -> Value {
    let answer = ask(w, TOKEN, query, variables).await;
    assert_eq!(answer["errors"], Value::Null, "{query}: {answer}");
    answer["data"].clone()
}

/// Code and message of the first error.
fn failure(answer: &Value) -> (&str, &str) {
    let error = &answer["errors"][0];
    let text = |value: &'_ Value| value.as_str().map(str::to_owned).is_some();
    assert!(text(&error["message"]) && text(&error["extensions"]["hint"]), "{answer}");
    (
        error["extensions"]["code"].as_str().unwrap_or_default(),
        error["message"].as_str().unwrap_or_default(),
    )
}
