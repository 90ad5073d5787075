//! The API as a machine reaches it from within, over a stream in memory.

use crate::world::{TOKEN, TestWorld, world};
use control::guest_api::GuestApi;
use host_api::GuestListener;
use model::id::MachineId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A connection out of a machine of the app `web`.
fn connect(w: &TestWorld, id: &str, listener: GuestListener) -> DuplexStream {
    let (guest, host) = tokio::io::duplex(4096);
    let machine: MachineId = id.parse().unwrap();
    GuestApi::new(&w.api).serve(machine, listener, host);
    guest
}

/// One request over the socket.
async fn ask(w: &TestWorld, id: &str, line: &str, more: &str) -> (u16, Value) {
    ask_at(w, id, GuestListener::Socket, line, more).await
}

/// One request as curl sends it; status and JSON of the answer.
async fn ask_at(
    w: &TestWorld,
    id: &str,
    listener: GuestListener,
    line: &str,
    more: &str,
) -> (u16, Value) {
    let mut guest = connect(w, id, listener);
    let text = format!("{line} HTTP/1.1\r\nhost: flaps\r\nconnection: close\r\n{more}\r\n");
    guest.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    parsed(&answer)
}

fn parsed(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("fly-request-id: "), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

async fn machine(w: &TestWorld, name: &str) -> String {
    let machine = w.machine(json!({ "name": name })).await;
    machine["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_machine_suspends_itself_without_a_token() {
    let w = world().await;
    w.app().await;
    let id = machine(&w, "a").await;
    let own = format!("/v1/apps/web/machines/{id}");
    let (code, shown) = ask(&w, &id, &format!("GET {own}"), "").await;
    assert_eq!((code, &shown["state"]), (200, &json!("started")));
    let suspend = format!("POST {own}/suspend");
    assert_eq!(ask(&w, &id, &suspend, "").await, (200, json!({ "ok": true })));
    assert_eq!(w.get(&own).await.1["state"], "suspended");
    // What the host refuses is refused here too; curl sends such bodies.
    w.post(&format!("{own}/stop"), Value::Null).await;
    let (code, refused) = ask(&w, &id, &suspend, "content-length: 2\r\n\r\n{}").await;
    assert_eq!((code, &refused["status"]), (409, &json!("unknown")));
}

#[tokio::test]
async fn an_app_may_be_named_machines() {
    let w = world().await;
    w.post("/v1/apps", json!({ "app_name": "machines" })).await;
    let body = json!({ "config": { "image": "nginx" } });
    let (code, machine) = w.post("/v1/apps/machines/machines", body).await;
    assert_eq!(code, 200, "{machine}");
    let id = machine["id"].as_str().unwrap();
    let own = format!("GET /v1/apps/machines/machines/{id}");
    assert_eq!(ask(&w, id, &own, "").await.0, 200);
    let other = "GET /v1/apps/machines/machines/00000000000000";
    assert_eq!(ask(&w, id, other, "").await.0, 403);
}

#[tokio::test]
async fn all_else_is_refused_without_a_token() {
    let w = world().await;
    w.app().await;
    let (id, other) = (machine(&w, "a").await, machine(&w, "b").await);
    w.post("/v1/apps", json!({ "name": "else" })).await;
    let own = format!("/v1/apps/web/machines/{id}");
    for line in [
        format!("POST {own}"),
        format!("DELETE {own}"),
        format!("HEAD {own}/events"),
        format!("GET {own}/suspend"),
        format!("POST {own}/stop"),
        format!("POST {own}/exec"),
        format!("GET /v1/apps/web/machines/{other}"),
        format!("POST /v1/apps/web/machines/{other}/suspend"),
        // Its name, or another spelling of its path, is not compared.
        "POST /v1/apps/web/machines/a/suspend".to_owned(),
        format!("POST /v1/apps/web/machines/%3{id}/suspend"),
        "GET /v1/apps".to_owned(),
        "GET /v1/apps/web".to_owned(),
        "GET /v1/platform/hosts".to_owned(),
        "GET /v1/tokens/current".to_owned(),
    ] {
        let (code, why) = match line.strip_prefix("HEAD ") {
            // A HEAD has no body to parse.
            Some(path) => ask(&w, &id, &format!("OPTIONS {path}"), "").await,
            None => ask(&w, &id, &line, "").await,
        };
        assert_eq!(code, 403, "{line}: {why}");
        let text = why["error"].as_str().unwrap();
        assert!(text.contains(&format!("machines/{id}/suspend")), "{text}");
        assert!(why["hint"].as_str().unwrap().contains("Authorization"), "{why}");
    }
    assert_eq!(w.get(&own).await.1["state"], "started");
    // It is a machine of its own app only.
    let elsewhere = format!("POST /v1/apps/else/machines/{id}/suspend");
    assert_eq!(ask(&w, &id, &elsewhere, "").await.0, 404);
    assert_eq!(w.get(&own).await.1["state"], "started");
    for path in ["/", "/healthz", "/v1/nothing", "/v1/apps/web/machines/x/y/z"] {
        let (code, why) = ask(&w, &id, &format!("GET {path}"), "").await;
        assert_eq!((code, why["error"].as_str()), (404, Some(&*format!("there is no GET {path}"))));
    }
}

#[tokio::test]
async fn a_machine_that_changes_its_labels_all_the_time_is_slowed_down() {
    let w = world().await;
    w.app().await;
    let id = machine(&w, "a").await;
    let api = GuestApi::new(&w.api);
    let own = format!("/v1/apps/web/machines/{id}");
    let ask = async |line: String, more: &str| {
        let (mut guest, host) = tokio::io::duplex(4096);
        api.serve(id.parse().unwrap(), GuestListener::Socket, host);
        let text = format!("{line} HTTP/1.1\r\nhost: flaps\r\nconnection: close\r\n{more}\r\n");
        guest.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let change = |n: usize| {
        let body = json!({ "value": n.to_string() }).to_string();
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        format!("{head}\r\n{body}")
    };
    let label = || format!("POST {own}/metadata/n");
    let mut done = 0;
    let refused = loop {
        let answer = ask(label(), &change(done)).await;
        if !answer.starts_with("HTTP/1.1 204") && !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        done += 1;
        assert!(done < 1000, "changes are not bounded");
    };
    assert_eq!(done, 20, "{refused}");
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.to_lowercase().contains("retry-after: 1"), "{refused}");
    // Reads, and calls with a token, are not limited.
    assert!(ask(format!("GET {own}"), "").await.starts_with("HTTP/1.1 200"));
    let token = format!("authorization: Bearer {TOKEN}\r\n{}", change(done));
    let answer = ask(label(), &token).await;
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

#[tokio::test]
async fn with_a_token_it_is_the_api() {
    let w = world().await;
    w.app().await;
    let (id, other) = (machine(&w, "a").await, machine(&w, "b").await);
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    let (code, apps) = ask(&w, &id, "GET /v1/apps", &token).await;
    assert_eq!((code, &apps["total_apps"]), (200, &json!(1)));
    let suspend = format!("POST /v1/apps/web/machines/{other}/suspend");
    assert_eq!(ask(&w, &id, &suspend, &token).await, (200, json!({ "ok": true })));
    // A wrong token is worse than none.
    let own = format!("GET /v1/apps/web/machines/{id}");
    let (code, _) = ask(&w, &id, &own, "authorization: Bearer wrong\r\n").await;
    assert_eq!(code, 401);
    // Only the socket vouches for a machine.
    let (code, _) = {
        let url = format!("http://{}/v1/apps/web/machines/{id}", w.addr);
        let answer = w.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer)
    };
    assert_eq!(code, 401);
    let more = format!("{token}upgrade: websocket\r\n");
    let stream = format!("GET /v1/apps/web/machines/{id}/exec/stream");
    assert_eq!(ask(&w, &id, &stream, &more).await.0, 501);
    let more = format!("{token}content-length: 20000\r\n\r\n{}", "x".repeat(20_000));
    let (code, why) = ask(&w, &id, "POST /v1/apps", &more).await;
    assert_eq!((code, &why["error"]), (413, &json!("the body is larger than 16384 bytes")));
}

#[tokio::test]
async fn a_connection_takes_several_requests() {
    let w = world().await;
    w.app().await;
    let id = machine(&w, "a").await;
    let mut guest = connect(&w, &id, GuestListener::Socket);
    // A client that only ends its own half still receives the answers.
    let get = format!("GET /v1/apps/web/machines/{id} HTTP/1.1\r\n\r\n");
    guest.write_all(get.repeat(2).as_bytes()).await.unwrap();
    guest.shutdown().await.unwrap();
    let mut answers = String::new();
    guest.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn the_answer_to_a_suspend_ends_the_connection() {
    let w = world().await;
    w.app().await;
    let id = machine(&w, "a").await;
    let mut guest = connect(&w, &id, GuestListener::Socket);
    let suspend = format!("POST /v1/apps/web/machines/{id}/suspend HTTP/1.1\r\n\r\n");
    guest.write_all(suspend.as_bytes()).await.unwrap();
    // The guest neither closes it nor asks for that, and yet this ends at once.
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with(r#"{"ok":true}"#), "{answer}");
}

#[tokio::test]
async fn a_machine_changes_its_own_labels_without_a_token() {
    let w = world().await;
    w.app().await;
    let (id, other) = (machine(&w, "a").await, machine(&w, "b").await);
    let set = async |machine: &str| {
        let mut guest = connect(&w, &id, GuestListener::Socket);
        let (line, body) =
            (format!("/v1/apps/web/machines/{machine}/metadata/role"), r#"{"value":"primary"}"#);
        let text = format!(
            "POST {line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        guest.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(set(&id).await, "204");
    let path = format!("/v1/apps/web/machines/{id}/metadata");
    assert_eq!(w.get(&path).await.1, json!({ "role": "primary" }));
    assert_eq!(set(&other).await, "403");
    let callers = w.host.callers();
    assert!(callers.contains(&host_api::Caller::Machine(id.parse().unwrap())), "{callers:?}");
}

#[tokio::test]
async fn connections_of_guests_come_from_the_hosts() {
    let w = world().await;
    w.app().await;
    let id = machine(&w, "a").await;
    GuestApi::new(&w.api).start(w.hosts.clone());
    let machine: MachineId = id.parse().unwrap();
    w.host.until(|host| host.takes_guests()).await;
    let mut guest = w.host.connect_from_guest(machine, GuestListener::Tcp).await.unwrap();
    let get = format!("GET /v1/apps/web/machines/{id} HTTP/1.1\r\nconnection: close\r\n");
    let get = format!("{get}authorization: Bearer {TOKEN}\r\n\r\n");
    guest.write_all(get.as_bytes()).await.unwrap();
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert_eq!(parsed(&answer).0, 200);
}

#[tokio::test]
async fn over_tcp_a_machine_needs_a_token() {
    let w = world().await;
    w.app().await;
    let id = machine(&w, "a").await;
    let own = format!("/v1/apps/web/machines/{id}");
    let ask = async |line: &str, more: &str| ask_at(&w, &id, GuestListener::Tcp, line, more).await;
    for line in [
        format!("GET {own}"),
        format!("POST {own}/suspend"),
        format!("POST {own}/metadata/x"),
        format!("PUT {own}/busy"),
        "POST /v1/tokens/oidc".to_owned(),
        "GET /v1/apps".to_owned(),
    ] {
        let (code, why) = ask(&line, "").await;
        assert_eq!(code, 401, "{line}: {why}");
        assert!(why["hint"].as_str().unwrap().contains("/.fly/api"), "{why}");
    }
    assert_eq!(w.get(&own).await.1["state"], "started");
    let authorized = format!("authorization: Bearer {TOKEN}\r\n");
    let (code, shown) = ask(&format!("GET {own}"), &authorized).await;
    assert_eq!((code, &shown["id"]), (200, &json!(id)));
}

#[tokio::test]
async fn a_machine_holds_its_busy_lease_without_a_token() {
    let w = world().await;
    w.app().await;
    let (id, other) = (machine(&w, "a").await, machine(&w, "b").await);
    let own = format!("/v1/apps/web/machines/{id}/busy");
    let hold = async |body: Value| {
        let (line, body) = (format!("POST {own}"), body.to_string());
        ask(&w, &id, &line, &format!("content-length: {}\r\n\r\n{body}", body.len())).await
    };
    let (code, held) = hold(json!({ "ttl": 90 })).await;
    assert_eq!((code, &held["busy"]), (200, &json!(true)));
    // The clock of the fake host moves with each call.
    let expires_at = held["expires_at"].as_str().unwrap();
    assert!(expires_at.starts_with("2023-11-14T22:14:50."), "{expires_at}");
    assert_eq!(hold(json!({})).await.1["busy"], true, "60 seconds by default");
    let ended = ask(&w, &id, &format!("DELETE {own}"), "").await;
    assert_eq!(ended, (200, json!({ "busy": false })));
    assert_eq!(ask(&w, &id, &format!("GET {own}"), "").await, (200, json!({ "busy": false })));
    let (code, why) = hold(json!({ "ttl": 3601 })).await;
    assert_eq!(
        (code, &why["error"]),
        (400, &json!("ttl: must be from 1 to 3600 seconds, not 3601"))
    );
    let of_other = format!("POST /v1/apps/web/machines/{other}/busy");
    assert_eq!(ask(&w, &id, &of_other, "").await.0, 403);
    w.post(&format!("/v1/apps/web/machines/{id}/stop"), Value::Null).await;
    assert_eq!(hold(json!({})).await.0, 409, "only a machine that runs is busy");
}
