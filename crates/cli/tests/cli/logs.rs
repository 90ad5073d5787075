//! `updraft logs` against a server that ends its streams.

use crate::fake::{ID, Setup, cli, run};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use expect_test::expect;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn event(n: i64) -> String {
    let line = json!({"offset": n, "timestamp": 1_795_219_705_000_000_000i64 + n * 1_000_000,
        "provider": "app", "level": "info", "instance": ID, "region": "here",
        "message": format!("line {n}")});
    format!(": a comment\n\nid: 0.{n}\ndata: {line}\n\n")
}

/// Answers each stream with the lines after the last one that the client has, at most two and a
/// part of another, and refuses the fourth.
fn answer(asked: &Mutex<Vec<String>>, request: &Request) -> Response {
    let header = |name: &str| {
        let value = request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let last = header("last-event-id");
    let query = request.uri().query().unwrap_or_default();
    asked.lock().unwrap().push(format!("{query} {} {last}", header("accept")));
    if asked.lock().unwrap().len() == 4 {
        let body = json!({"error": "Could not find App \"web\"", "status": "not_found"});
        return (StatusCode::NOT_FOUND, axum::Json(body)).into_response();
    }
    let next = last.strip_prefix("0.").map_or(1, |n| n.parse::<i64>().unwrap() + 1);
    let cut = event(next + 2);
    let body = format!("{}id: 0.{}\n\n{}", event(next), next + 1, &cut[..cut.len() - 1]);
    ([("content-type", "text/event-stream")], body).into_response()
}

#[tokio::test]
async fn a_stream_that_ends_is_continued_after_the_last_line() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let routes =
        Router::new().fallback(move |request: Request| async move { answer(&seen, &request) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let tasks = rt::Tasks::new();
    tasks.spawn_until_stop(async move { axum::serve(listener, routes).await.unwrap() });
    let args = ["logs", "-a", "web", "--since", "1h", "--search", "a b", "--level", "warn,error"];
    let vars = [("UPDRAFT_API", api.as_str()), ("UPDRAFT_TOKEN", "t0ken")];
    let ran = run(Setup::default(), &args, &vars).await;
    // A part of an event is none; ids without a line count.
    expect![[r#"
        exit 3
        --- stdout
        2026-11-21T00:08:25.001Z app[3d8d413b29d089] here [info]line 1
        2026-11-21T00:08:25.003Z app[3d8d413b29d089] here [info]line 3
        2026-11-21T00:08:25.005Z app[3d8d413b29d089] here [info]line 5
        --- stderr
        The connection is lost; trying again.
        The connection is lost; trying again.
        The connection is lost; trying again.
        Error: Cannot read the logs of app web
        Caused by: Could not find App "web"
    "#]]
    .assert_eq(&ran.show());
    let first = "follow=true&q=a+b&level=warn%2Cerror&since=1h text/event-stream ";
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, ["", "0.2", "0.4", "0.6"].map(|last| format!("{first}{last}")));
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_is_there_is_searched() {
    let args =
        ["logs", "-n", "-a", "web", "--since", "2026-11-29T10:00:00Z", "--level", "warn", "--json"];
    let ran = cli(&args).await;
    let asked = "GET /v1/apps/web/logs?follow=false&level=warn&since=2026-11-29T10%3A00%3A00Z\n";
    assert_eq!((ran.code, ran.asked.as_str(), ran.out.lines().count()), (0, asked, 2));
    let ran = cli(&["logs", "-n", "-a", "web", "--since", "5m", "--tail", "3"]).await;
    assert!(ran.asked.contains("since=5m&tail=3"), "{}", ran.asked);
    let refused = cli(&["logs", "-a", "web", "--level", "fatal"]).await;
    assert!(
        refused.code == 2 && refused.err.contains("possible values: debug"),
        "{}",
        refused.show()
    );
}
