//! Rate limits, where they are on.

use crate::world::{TOKEN, TestWorld, at, world};
use control::http_api::{HttpApi, HttpConfig};
use prometheus_client::registry::Registry;
use reqwest::Method;
use serde_json::{Value, json};

/// A second front of the same platform, with limits; its address.
async fn limited(w: &TestWorld) -> String {
    front(w, HttpConfig { rate_limits: true, ..HttpConfig::default() }).await
}

/// A second front of the same platform; its address.
pub(crate) async fn front(w: &TestWorld, config: HttpConfig) -> String {
    let api = HttpApi::new(w.platform.clone(), config, &mut Registry::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = api.router();
    w.tasks.spawn_until_stop(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{addr}")
}

#[tokio::test]
async fn requests_beyond_the_limits_are_429_with_the_time_to_wait() {
    let w = world().await;
    w.app().await;
    let (a, b) = (w.machine(json!({})).await, w.machine(json!({})).await);
    let base = limited(&w).await;
    let call = async |method: Method, path: &str| {
        let request = w.client.request(method, format!("{base}{path}"));
        request.header("authorization", format!("Bearer {TOKEN}")).send().await.unwrap()
    };
    let number = |answer: &reqwest::Response, name: &str| -> u64 {
        answer.headers()[name].to_str().unwrap().parse().unwrap()
    };
    for remaining in [2, 1, 0] {
        let answer = call(Method::POST, &at(&a, "/cordon")).await;
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(number(&answer, "ratelimit-limit"), 3);
        assert!(number(&answer, "ratelimit-remaining") >= remaining);
    }
    let refused = loop {
        // A slow test refills the bucket, but not as fast as it asks.
        let answer = call(Method::POST, &at(&a, "/cordon")).await;
        if answer.status().as_u16() == 429 {
            break answer;
        }
    };
    assert_eq!((number(&refused, "retry-after"), number(&refused, "ratelimit-remaining")), (1, 0));
    assert!(number(&refused, "ratelimit-reset") >= 1);
    let body: Value = refused.json().await.unwrap();
    assert!(body["error"].as_str().unwrap().starts_with("rate limit: 60 requests a minute"));
    // Each action and each machine has limits of its own, and the front without them has none.
    assert_eq!(call(Method::POST, &at(&a, "/uncordon")).await.status().as_u16(), 200);
    assert_eq!(call(Method::POST, &at(&b, "/cordon")).await.status().as_u16(), 200);
    // Other spellings of a path are the same machine.
    let spelled = |n: usize| {
        let id = b["id"].as_str().unwrap();
        let (before, rest) = id.split_at(n % id.len());
        let code = format!("%{:02x}{}", rest.as_bytes()[0], &rest[1..]);
        format!("/v1/apps/web/machines/{before}{code}/uncordon")
    };
    let mut refused = false;
    for n in 0..14 {
        refused |= call(Method::POST, &spelled(n)).await.status().as_u16() == 429;
    }
    assert!(refused);
    let read = call(Method::GET, &at(&a, "")).await;
    assert_eq!((read.status().as_u16(), number(&read, "ratelimit-limit")), (200, 10));
    let free = w.request(Method::POST, &at(&a, "/cordon")).send().await.unwrap();
    assert!(!free.headers().contains_key("ratelimit-limit"));
}

/// They are those of the Machines API.
#[tokio::test]
async fn graphql_has_no_limits() {
    let w = world().await;
    let base = limited(&w).await;
    for _ in 0..20 {
        let request = w.client.post(format!("{base}/graphql")).bearer_auth(TOKEN);
        let request = request.json(&json!({ "query": "{ viewer { email } }" }));
        let answer = request.send().await.unwrap();
        assert!(!answer.headers().contains_key("ratelimit-limit"));
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer, json!({ "data": { "viewer": { "email": "admin" } } }));
    }
}
