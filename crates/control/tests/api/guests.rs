//! What happens in a guest: commands, processes, logs; and images.

use crate::world::{TOKEN, TestWorld, at, error, id, world};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

#[tokio::test]
async fn a_command_answers_at_its_end() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let exec = async |ask: Value| w.post(&at(&machine, "/exec"), ask).await;
    let output = |code: i32, stdout: &str| {
        (200, json!({ "exit_code": code, "exit_signal": 0, "stdout": stdout, "stderr": "" }))
    };
    assert_eq!(exec(json!({ "cmd": "echo 'a b' c" })).await, output(0, "a b c\n"));
    assert_eq!(exec(json!({ "cmd": ["echo", "a b"] })).await, output(0, "a b\n"));
    assert_eq!(exec(json!({ "command": ["exit", "3"], "timeout": 5 })).await, output(3, ""));
    let input = "x".repeat(50_000);
    assert_eq!(exec(json!({ "command": ["cat"], "stdin": input })).await, output(0, &input));
    let (code, flood) = exec(json!({ "command": ["flood"] })).await;
    assert_eq!((code, &flood["truncated"], &flood["stderr"]), (200, &json!(true), &json!("wet")));
    assert_eq!(flood["stdout"].as_str().unwrap().len(), 1024 * 1024);
    for (ask, expected) in [
        (json!({}), (400, "command: is required")),
        (json!({ "cmd": "echo 'x" }), (400, "cmd: missing closing quote")),
        (
            json!({ "cmd": "a", "command": ["a"] }),
            (400, "cmd: cannot be given together with command"),
        ),
        (
            json!({ "cmd": "a", "container": "c", "machine": true }),
            (400, "container: cannot be given together with machine"),
        ),
        (json!({ "cmd": "nope" }), (422, "exec: nope: not found")),
    ] {
        assert_eq!(error(&exec(ask.clone()).await), expected, "{ask}");
    }
    w.post(&at(&machine, "/stop"), Value::Null).await;
    assert_eq!(exec(json!({ "cmd": "echo" })).await.0, 409);
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open(w: &TestWorld, machine: &Value, first: Value) -> Socket {
    open_with(w, TOKEN, machine, first).await
}

async fn open_with(w: &TestWorld, token: &str, machine: &Value, first: Value) -> Socket {
    let url = format!("ws://{}{}", w.addr, at(machine, "/exec/stream"));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::text(first.to_string())).await.unwrap();
    socket
}

async fn receive(socket: &mut Socket) -> String {
    match socket.next().await.unwrap().unwrap() {
        Message::Binary(data) => format!("{}:{}", data[0], String::from_utf8_lossy(&data[1..])),
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_over_a_websocket() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let start = |argv: Value| json!({ "argv": argv, "env": [], "tty": { "rows": 24, "cols": 80 } });
    let mut cat = open(&w, &machine, start(json!(["cat"]))).await;
    cat.send(Message::binary(b"hello".to_vec())).await.unwrap();
    assert_eq!(receive(&mut cat).await, "1:hello");
    let resize = json!({ "resize": { "rows": 50, "cols": 132 } });
    cat.send(Message::text(resize.to_string())).await.unwrap();
    assert_eq!(receive(&mut cat).await, "1:50x132");
    cat.send(Message::text(json!({ "signal": 2 }).to_string())).await.unwrap();
    assert_eq!(receive(&mut cat).await, r#"{"exited":{"code":130,"signal":0}}"#);
    let mut cat = open(&w, &machine, start(json!(["cat"]))).await;
    cat.send(Message::text(json!({ "eof": true }).to_string())).await.unwrap();
    assert_eq!(receive(&mut cat).await, r#"{"exited":{"code":0,"signal":0}}"#);
    // Only the command itself is required.
    let mut short = open(&w, &machine, json!({ "argv": ["echo", "hi"] })).await;
    assert_eq!(receive(&mut short).await, "1:hi\n");
    // Input that comes too late does not take the end away.
    let mut gone = open(&w, &machine, start(json!(["exit", "4"]))).await;
    for _ in 0..20 {
        drop(gone.send(Message::binary(vec![b'x'; 10_000])).await);
    }
    assert_eq!(receive(&mut gone).await, r#"{"exited":{"code":4,"signal":0}}"#);
    let mut nope = open(&w, &machine, start(json!(["nope"]))).await;
    let end: Value = serde_json::from_str(&receive(&mut nope).await).unwrap();
    assert_eq!(end["failed"], "exec: nope: not found");
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("command_not_found"), &json!("command_not_found"))
    );
    let mut bad = open(&w, &machine, start(json!([]))).await;
    let end: Value = serde_json::from_str(&receive(&mut bad).await).unwrap();
    assert_eq!(end["failed"], "command: is required");
    assert_eq!((&end["status"], &end["code"]), (&json!("unknown"), &json!("invalid")));
    // Without an upgrade it is an error like any other.
    let (code, _) = w.get(&at(&machine, "/exec/stream")).await;
    assert_eq!(code, 400);
}

/// A token of the organization `personal` for the app with the number 1.
fn for_commands(kind: &str, first_words: &[&str]) -> store::records::TokenRecord {
    let rule =
        |word: &&str| wire::tokens::CommandRule { args: vec![(*word).to_owned()], exact: false };
    store::records::TokenRecord {
        name: kind.into(),
        kind: kind.into(),
        org: Some(model::id::OrgId(1)),
        apps: vec![model::id::AppId(1)],
        commands: first_words.iter().map(rule).collect(),
        ..store::records::TokenRecord::default()
    }
}

#[tokio::test]
async fn a_token_for_some_commands_sets_no_variables() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    w.put_token("some", for_commands("machine-exec", &["echo"])).await;
    w.put_token("all", for_commands("ssh", &[])).await;
    let with = json!({ "argv": ["echo", "hi"], "env": [["LD_PRELOAD", "/tmp/x.so"]] });
    let mut refused = open_with(&w, "some", &machine, with.clone()).await;
    let why = receive(&mut refused).await;
    let expected = "env: cannot be set with a token that is limited to some commands";
    assert!(why.contains(expected), "{why}");
    let mut rm = open_with(&w, "some", &machine, json!({ "argv": ["rm", "x"] })).await;
    assert!(receive(&mut rm).await.contains("forbidden"));
    let mut plain = open_with(&w, "some", &machine, json!({ "argv": ["echo", "hi"] })).await;
    assert_eq!(receive(&mut plain).await, "1:hi\n");
    let mut all = open_with(&w, "all", &machine, with).await;
    assert_eq!(receive(&mut all).await, "1:hi\n");
    // What was denied after the upgrade is in the audit log.
    let (_, log) = w.get("/v1/orgs/personal/audit").await;
    let entries = log["entries"].as_array().unwrap();
    let denied: Vec<_> = entries.iter().filter(|entry| entry["status"] == 403).collect();
    assert_eq!(denied.len(), 2, "{log}");
    assert!(denied[0]["path"].as_str().unwrap().ends_with("/exec/stream"), "{log}");
    assert_eq!(denied[0]["caller"]["token"], "machine-exec");
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let (_, made) = w.post("/v1/apps/web/deploy_token", json!({ "expiry": "1h" })).await;
    let token = made["token"].as_str().unwrap();
    let mut cat = open_with(&w, token, &machine, json!({ "argv": ["cat"] })).await;
    cat.send(Message::binary(b"hello".to_vec())).await.unwrap();
    assert_eq!(receive(&mut cat).await, "1:hello");
    w.clock.advance(Duration::from_secs(3600));
    let end = receive(&mut cat).await;
    assert!(end.contains("the token has expired or been revoked"), "{end}");
}

#[tokio::test]
async fn followed_logs_and_watches_end_with_their_token() {
    let w = world().await;
    w.app().await;
    let (_, made) = w.post("/v1/orgs/personal/tokens", json!({ "type": "org" })).await;
    let open = async |path: &str| {
        let url = format!("http://{}{path}", w.addr);
        let request = w.client.get(url).header("authorization", made["token"].as_str().unwrap());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer
    };
    let logs = open("/v1/apps/web/logs?follow=true").await;
    let events = open("/v1/apps/web/watch").await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(w.delete(&format!("/v1/orgs/personal/tokens/{id}")).await.0, 200);
    let both = async { (logs.bytes().await.unwrap(), events.bytes().await.unwrap()) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("both end");
}

#[tokio::test]
async fn processes_are_sorted() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for (query, pids) in [("", [1, 2, 3]), ("?sort_by=rss&order=desc", [3, 2, 1])] {
        let (_, list) = w.get(&at(&machine, &format!("/ps{query}"))).await;
        let list: Vec<_> =
            list.as_array().unwrap().iter().map(|p| p["pid"].as_i64().unwrap()).collect();
        assert_eq!(list, pids, "{query}");
    }
    assert_eq!(w.get(&at(&machine, "/ps?sort_by=mood")).await.0, 400);
}

#[tokio::test]
async fn logs_are_streamed_and_paged() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    let other = w.machine(json!({ "name": "b" })).await;
    for n in 1..=5 {
        let of = if n == 5 { &other } else { &machine };
        w.host.print(id(of), n, &format!("line {n}"));
    }
    let lines = async |query: &str| {
        let path = format!("/v1/apps/web/logs{query}");
        let answer = w.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let text = answer.text().await.unwrap();
        let message = |line| serde_json::from_str::<Value>(line).unwrap()["message"].clone();
        text.lines().map(message).collect::<Vec<_>>()
    };
    assert_eq!(lines("?tail=2").await, ["line 4", "line 5"]);
    assert_eq!(lines("?instance=a&after=2").await, ["line 3", "line 4"]);
    let follow = w.request(Method::GET, "/v1/apps/web/logs?follow=true&tail=1").send().await;
    let first = follow.unwrap().chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).ends_with("\"message\":\"line 5\"}\n"));

    let (code, page) = w.get("/api/v1/apps/web/logs?next_token=3").await;
    assert_eq!((code, &page["meta"]["next_token"]), (200, &json!("5")));
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    assert_eq!(page["data"][0]["attributes"]["message"], "line 4");
    assert_eq!(page["data"][0]["attributes"]["meta"]["event"]["provider"], "app");
    let stamp = &page["data"][0]["attributes"]["timestamp"];
    assert_eq!(stamp, "1970-01-01T00:00:00.000000004Z");
    let (_, end) = w.get("/api/v1/apps/web/logs?next_token=5").await;
    assert_eq!(end, json!({ "data": [], "meta": { "next_token": "5" } }));
}

#[tokio::test]
async fn images_are_imported_listed_and_removed() {
    let w = world().await;
    // More than a JSON body may have.
    let tar = vec![0u8; 300_000];
    let path = "/v1/images/import?name=demo:1";
    let answer = w.request(Method::POST, path).body(tar).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0],
        json!({ "type": "step", "name": "tar", "done": 300_000, "total": 300_000 })
    );
    assert_eq!(lines[1]["image"]["references"], json!(["demo:1"]));
    assert_eq!(w.get("/v1/images").await.1[0]["digest"], format!("sha256:{:064x}", 300_000));
    assert_eq!(w.delete("/v1/images/demo:1").await.0, 200);
    let gone = w.delete("/v1/images?reference=demo:1").await;
    assert_eq!(error(&gone), (404, "there is no image \"demo:1\""));
}

#[tokio::test]
async fn the_file_name_of_an_import_reaches_the_host() {
    let w = world().await;
    let import = |query: &str| {
        let request = w.request(Method::POST, &format!("/v1/images/import?{query}"));
        async move { request.body("tar").send().await.unwrap() }
    };
    let text = import("file=web.tar&name=").await.text().await.unwrap();
    assert!(text.contains(r#""references":["web.tar"]"#), "{text}");
    let text = import("file=web.tar&name=demo:1").await.text().await.unwrap();
    assert!(text.contains(r#""references":["demo:1"]"#), "{text}");
    for bad in ["a/web.tar", "%2Ftmp%2Fweb.tar", "web%0A.tar"] {
        assert_eq!(import(&format!("file={bad}")).await.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn pages_of_the_log_have_every_line_once() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for n in 1..=25_000 {
        w.host.print(id(&machine), n, "x");
    }
    let (mut token, mut sizes) = ("0".to_owned(), Vec::new());
    loop {
        let (_, page) = w.get(&format!("/api/v1/apps/web/logs?next_token={token}")).await;
        let lines = page["data"].as_array().unwrap();
        if lines.is_empty() {
            break;
        }
        sizes.push(lines.len());
        token = page["meta"]["next_token"].as_str().unwrap().to_owned();
    }
    assert_eq!(sizes, [10_000, 10_000, 5_000]);
}

#[tokio::test]
async fn a_stop_of_the_platform_ends_followed_logs_and_waits() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let follow = w.request(Method::GET, "/v1/apps/web/logs?follow=true").send().await.unwrap();
    let wait = control::machines::wait(
        &w.platform,
        "web",
        machine["id"].as_str().unwrap(),
        control::machines::WaitRequest { states: vec!["stopped".into()], ..Default::default() },
    );
    let stop = async {
        tokio::task::yield_now().await;
        w.tasks.stop();
    };
    let (waited, ()) = tokio::join!(wait, stop);
    assert_eq!(waited.unwrap_err().kind, control::Kind::Unavailable);
    // It ends, whole or cut off with its connection, and hangs nothing.
    drop(follow.bytes().await);
}

#[tokio::test]
async fn a_followed_log_that_breaks_between_lines_of_one_time_continues_with_the_rest() {
    let w = world().await;
    w.app().await;
    let machine = id(&w.machine(json!({ "name": "a" })).await);
    let query = wire::logs::LogQuery::default();
    let items = control::logs::follow(&w.platform, "web", query, None).await.unwrap();
    let mut lines = items.filter_map(async |item| item.line).boxed();
    let time = 1_800_000_000_000_000_000;
    w.host.print(machine, time, "one");
    assert_eq!(lines.next().await.unwrap().message, "one");
    w.host.restart_worker();
    let notice = lines.next().await.unwrap();
    assert_eq!(notice.provider, "runner", "{notice:?}");
    w.host.print(machine, time, "two");
    assert_eq!(lines.next().await.unwrap().message, "two");
    w.host.print(machine, time + 1, "three");
    assert_eq!(lines.next().await.unwrap().message, "three");
}
