//! Requests that are refused: each with the status 200 and an error that names the reason.

use super::documents::document;
use super::{ask, failure, send};
use crate::rate_limits::front;
use crate::tokens::make;
use crate::world::{TOKEN, world};
use control::http_api::HttpConfig;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::Reach;

/// The usual query for introspection, shortened.
const INTROSPECTION: &str = "{
    __schema { queryType { name } mutationType { name } types { ...Type } }
    viewer { __typename email }
}
fragment Type on __Type {
    kind name
    fields(includeDeprecated: true) { name args { name type { ...Ref } } type { ...Ref } }
}
fragment Ref on __Type { kind name ofType { kind name ofType { kind name ofType { name } } } }";

#[tokio::test]
async fn without_a_valid_token_nothing_is_answered() {
    let w = world().await;
    for (token, why) in [
        ("", "unauthorized: no token was given"),
        ("Bearer wrong", "unauthorized: the token is not valid"),
        ("FlyV1 fm2_AAAA,fm2_BBBB", "unauthorized: the token is not valid"),
    ] {
        for query in
            [INTROSPECTION, "{ viewer { email } }", "{", "mutation { createDoctorUrl { putUrl } }"]
        {
            let answer = ask(&w, token, query, Value::Null).await;
            assert_eq!(failure(&answer), ("UNAUTHORIZED", why), "{query}");
            assert_eq!(answer["data"], Value::Null);
        }
        // Before its body is looked at.
        assert_eq!(failure(&send(&w, token, "[".repeat(10)).await), ("UNAUTHORIZED", why));
    }
    let reader = make(&w, json!({ "type": "readonly" })).await;
    let answer = ask(&w, &reader, INTROSPECTION, Value::Null).await;
    assert_eq!(answer["data"]["__schema"]["mutationType"]["name"], "Mutations", "{answer}");
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let w = world().await;
    let request = json!({ "query": "{ viewer { email } }" });
    for (body, why) in [
        (String::new(), "body: EOF while parsing a value"),
        ("{".into(), "body: EOF while parsing an object"),
        ("null".into(), "body: invalid type: null"),
        ("{}".into(), "body: missing field `query`"),
        (json!({ "query": null }).to_string(), "query: invalid type: null, expected a string"),
        (json!([request, request]).to_string(), "body: must be one request"),
        ("[]".into(), "body: must be one request"),
        (
            json!({ "query": "{ viewer { email } }", "variables": "x" }).to_string(),
            "variables: invalid type: string",
        ),
        ("[".repeat(50_000), "body: must be one request"),
        (format!("{{\"variables\":{}", "[".repeat(50_000)), "variables: "),
    ] {
        let answer = send(&w, TOKEN, body.clone()).await;
        let (code, text) = failure(&answer);
        assert!(code == "INVALID" && text.starts_with(why), "{body:.80}: {answer}");
    }
    let large = json!({ "query": format!("{{ viewer {{ email }} }} #{}", "x".repeat(70_000)) });
    let answer = send(&w, TOKEN, large.to_string()).await;
    assert_eq!(failure(&answer), ("TOO_LARGE", "the body is larger than 65536 bytes"));
}

/// Documents that are small and would make much work.
#[tokio::test]
async fn documents_beyond_the_bounds() {
    let w = world().await;
    w.app().await;
    let aliases = |count: usize, field: &str| -> String {
        (0..count).map(|n| format!("a{n}: {field} ")).collect()
    };
    let deep = |levels: usize| {
        let (open, close) = ("organization { remoteBuilderApp { ", "} } ");
        format!("{{ app(name: \"web\") {{ {}id {}}} }}", open.repeat(levels), close.repeat(levels))
    };
    // Each fragment spreads the next one twice.
    let doubled: String = (0..20)
        .map(|n| {
            let below = if n == 19 { "id".to_owned() } else { format!("...F{}", n + 1) };
            format!(
                "fragment F{n} on App {{ a: organization {{ remoteBuilderApp {{ {below} }} }} \
                 b: organization {{ remoteBuilderApp {{ {below} }} }} }} "
            )
        })
        .collect();
    let circle =
        "fragment A on App { ...B } fragment B on App { ...A } { app(name: \"web\") { ...A } }";
    for (query, why) in [
        (format!("{{ viewer {{ {} }} }}", "email ".repeat(4_000)), "limit"),
        (
            format!("{{ {} }}", aliases(21, "viewer { email }")),
            "has more than 20 fields at the top",
        ),
        (
            format!("{{ app(name: \"web\") {{ {} }} }}", aliases(700, "id")),
            "has more than 600 fields",
        ),
        (deep(30), "limit"),
        (deep(11), "has more than 20 levels of fields"),
        (format!("{{ app(name: \"web\") {{ ...F0 }} }} {doubled}"), "has more than 600 fields"),
        (circle.to_owned(), "cannot reference itself"),
        ("{ app ".repeat(1_000), "limit"),
        ("{ viewer ".repeat(100), "limit"),
        (
            format!(
                "{{ __schema {{ types {{ {}name {} }} }} }}",
                "fields { type { ".repeat(4),
                "} } ".repeat(4)
            ),
            "aximum introspection depth",
        ),
    ] {
        let answer = ask(&w, TOKEN, &query, Value::Null).await;
        let (code, text) = failure(&answer);
        assert!(code == "INVALID" && text.contains(why), "{query:.80}: {answer}");
        assert!(answer.to_string().len() < 4_000, "{}", answer.to_string().len());
    }
    let most = format!("{{ {} }}", aliases(20, "app(name: \"web\") { id }"));
    assert_eq!(ask(&w, TOKEN, &most, Value::Null).await["data"]["a19"]["id"], "web");
}

#[tokio::test]
async fn documents_and_variables_that_are_not_valid() {
    let w = world().await;
    let app = "query($appName: String!) { app(name: $appName) { id } }";
    let create = document("CreateApp");
    let input = |input: Value| json!({ "input": input });
    for (query, variables, why) in [
        ("", Value::Null, "query: "),
        ("{", Value::Null, "query: syntax error"),
        ("{ viewer { email password } }", Value::Null, "password"),
        ("{ none }", Value::Null, "none"),
        ("{ viewer }", Value::Null, "must have a subselection set"),
        ("{ app(name: \"web\", x: 1) { id } }", Value::Null, "x"),
        ("{ app(name: 1) { id } }", Value::Null, "String"),
        ("{ app(name: $appName) { id } }", Value::Null, "$appName"),
        ("subscription { viewer { email } }", Value::Null, "subscription"),
        ("query($x: None!) { app(name: $x) { id } }", json!({ "x": 1 }), "None"),
        ("query A { viewer { email } } query B { viewer { email } }", Value::Null, "query: "),
        ("fragment F on App { id }", Value::Null, "query: "),
        (app, Value::Null, "variables: missing value for non-null variable 'appName'"),
        (app, json!({ "appName": null }), "variables: null value for variable appName"),
        (app, json!({ "appName": 1 }), "variables: could not coerce variable appName"),
        (app, json!({ "appName": ["a", "b"] }), "variables: could not coerce variable appName"),
        (&create, json!({}), "variables: missing value for non-null variable 'input'"),
        (&create, input(json!({})), "CreateAppInput.organizationId"),
        (&create, input(json!({ "organizationId": "personal", "x": 1 })), "has key x not in type"),
        (&create, input(json!({ "organizationId": [] })), "organizationId"),
        (&create, input(json!({ "organizationId": "personal", "name": "" })), "app_name: "),
        (
            &create,
            input(json!({ "organizationId": "", "name": "a" })),
            "organizationId: is required",
        ),
        ("{ app(name: \"\") { id } }", Value::Null, "name: is required"),
        ("{ app { id } }", Value::Null, "name: is required"),
    ] {
        let answer = ask(&w, TOKEN, query, variables.clone()).await;
        let (code, text) = failure(&answer);
        assert!(code == "INVALID" && text.contains(why), "{query} {variables}: {answer}");
        assert!(!text.contains("resolver error"), "{answer}");
    }
    assert_eq!(w.get("/v1/apps").await.1["apps"], json!([]));
    // One of several operations.
    let two = "query A { viewer { __typename } } query B { organizations { nodes { slug } } }";
    let body = json!({ "query": two, "operationName": "B", "variables": { "unknown": 1 } });
    let answer = send(&w, TOKEN, body.to_string()).await;
    assert_eq!(answer["data"]["organizations"]["nodes"][0]["slug"], "personal", "{answer}");
}

#[tokio::test]
async fn other_methods_and_content_types() {
    let w = world().await;
    let body = json!({ "query": "{ viewer { email } }" }).to_string();
    for (kind, is_read) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("Application/JSON", true),
        ("application/graphql-response+json", true),
        ("application/graphql", false),
        ("text/plain", false),
        ("multipart/form-data; boundary=x", false),
        ("application/x-www-form-urlencoded", false),
    ] {
        let request = w.request(Method::POST, "/graphql").header("content-type", kind);
        let answer = request.body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{kind}");
        let answer: Value = answer.json().await.unwrap();
        if is_read {
            assert_eq!(answer["data"]["viewer"]["email"], "admin", "{kind}");
        } else {
            let why = "the content type of a GraphQL request must be application/json";
            assert_eq!(failure(&answer), ("UNSUPPORTED_MEDIA_TYPE", why), "{kind}");
        }
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let url = "/graphql?query=%7Bviewer%7Bemail%7D%7D";
        let answer = w.request(method.clone(), url).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"POST".parse().unwrap())
        );
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["error"], "method not allowed", "{method}");
    }
    // With a slash at its end the path is the same.
    let request = w.request(Method::POST, "/graphql/").body(body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"]["viewer"]["email"], "admin");
}

/// An alias repeats a large value for each entry of a list.
#[tokio::test]
async fn an_answer_has_a_largest_size() {
    let w = world().await;
    w.app().await;
    let large = json!({ "image": "nginx", "env": { "A": "x".repeat(60_000) } });
    for _ in 0..2 {
        w.machine(json!({ "config": large, "skip_launch": true })).await;
    }
    let aliases =
        |count: usize| -> String { (0..count).map(|n| format!("a{n}: config ")).collect() };
    let query = |count| {
        format!("{{ app(name: \"web\") {{ machines {{ nodes {{ {} }} }} }} }}", aliases(count))
    };
    let answer = ask(&w, TOKEN, &query(10), Value::Null).await;
    assert_eq!(answer["data"]["app"]["machines"]["nodes"][1]["a9"]["image"], "nginx");
    let answer = ask(&w, TOKEN, &query(500), Value::Null).await;
    let why = "query: its answer has more than 33554432 bytes";
    assert_eq!(failure(&answer), ("INVALID", why));
    assert_eq!(answer["data"], json!({ "app": null }));
}

#[tokio::test]
async fn a_request_that_reads_ends_in_time_and_many_are_answered_at_once() {
    let w = world().await;
    w.app().await;
    w.machine(json!({})).await;
    let query = "{ app(name: \"web\") { machines { nodes { state } } } }";
    let asked = join_all((0..150).map(|_| ask(&w, TOKEN, query, Value::Null))).await;
    for answer in asked {
        assert_eq!(answer["data"]["app"]["machines"]["nodes"][0]["state"], "started", "{answer}");
    }
    w.host.set_reach(Reach::Silent);
    let graphql_timeout = Duration::from_millis(50);
    let base = front(&w, HttpConfig { graphql_timeout, ..HttpConfig::default() }).await;
    let request = w.client.post(format!("{base}/graphql")).bearer_auth(TOKEN);
    let answer = request.json(&json!({ "query": query })).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(failure(&answer), ("TIMEOUT", "the request took longer than 50ms"));
}
