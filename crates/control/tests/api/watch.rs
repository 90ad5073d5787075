//! Watches over HTTP: server-sent events, resumed by id.

use crate::world::{TestWorld, at, error, id, world, world_of};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    name: String,
    pub(crate) data: Value,
}

/// A client that reads server-sent events and remembers the last id.
pub(crate) struct Watch {
    body: BoxStream<'static, String>,
    text: String,
    last_id: String,
}

pub(crate) async fn watch(world: &TestWorld, path: &str, last_id: Option<&str>) -> Watch {
    let request = world.request(Method::GET, path);
    let mut request = request.header("accept", "text/event-stream");
    if let Some(id) = last_id {
        request = request.header("Last-Event-ID", id);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let parts = answer.bytes_stream().map(|part| match part {
        Ok(part) => String::from_utf8(part.to_vec()).unwrap(),
        Err(err) => panic!("the stream broke: {err}"),
    });
    Watch { body: parts.boxed(), text: String::new(), last_id: last_id.unwrap_or("").into() }
}

impl Watch {
    /// The next event that a browser would dispatch.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start().to_owned())
                };
                if let Some(id) = field("id:") {
                    self.last_id = id;
                }
                if let Some(data) = field("data:") {
                    let data = serde_json::from_str(&data).unwrap();
                    let name = field("event:").unwrap_or_default();
                    return Event { id: self.last_id.clone(), name, data };
                }
            }
            let more = self.body.next().await;
            self.text += &more.expect("the stream has not ended");
        }
    }

    /// The first event that reports the state.
    async fn until(&mut self, state: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.data["status"] == state {
                return event;
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }
}

fn event_ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.data["id"].as_str().unwrap().to_owned()).collect()
}

/// Ids of the machine's own list, oldest first.
async fn listed(world: &TestWorld, machine: &Value) -> Vec<String> {
    let (code, events) = world.get(&at(machine, "/events?limit=50")).await;
    assert_eq!(code, 200, "{events}");
    let ids = events.as_array().unwrap().iter().rev();
    ids.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_scope_sees_its_events_in_order() {
    let world = world().await;
    world.app().await;
    let (code, _) = world.post("/v1/apps", json!({ "app_name": "other" })).await;
    assert_eq!(code, 201);
    let mut of_app = watch(&world, "/v1/apps/web/watch", None).await;
    let mut of_org = watch(&world, "/v1/orgs/personal/watch", None).await;
    let (code, other) =
        world.post("/v1/apps/other/machines", json!({ "config": { "image": "nginx" } })).await;
    assert_eq!(code, 200, "{other}");
    let machine = world.machine(json!({ "name": "calm" })).await;
    let mut of_machine = watch(&world, &at(&machine, "/events/stream"), None).await;
    world.post(&at(&machine, "/stop"), Value::Null).await;
    let own = listed(&world, &machine).await;
    let events = of_app.take(own.len()).await;
    assert_eq!(event_ids(&events), own);
    let stopped = &events[own.len() - 1].data;
    for (field, value) in [
        ("machine_id", &machine["id"]),
        ("machine_name", &json!("calm")),
        ("app_name", &json!("web")),
        ("region", &json!("local")),
        ("status", &json!("stopped")),
    ] {
        assert_eq!(&stopped[field], value, "{field}: {stopped}");
    }
    // From the moment of the answer on: what came before the stop is not in it.
    let stopping = of_machine.next().await;
    assert_eq!(stopping.data["status"], "stopping", "{stopping:?}");
    of_machine.until("stopped").await;
    let own_of_other = {
        let path = format!("/v1/apps/other/machines/{}/events", other["id"].as_str().unwrap());
        world.get(&path).await.1.as_array().unwrap().len()
    };
    let all = of_org.take(own.len() + own_of_other).await;
    let count = |machine: &Value| {
        all.iter().filter(|event| event.data["machine_id"] == machine["id"]).count()
    };
    assert_eq!((count(&machine), count(&other)), (own.len(), own_of_other));
}

#[tokio::test]
async fn a_watch_is_resumed_without_a_gap_or_a_repetition() {
    let world = world().await;
    world.app().await;
    let mut first = watch(&world, "/v1/apps/web/watch", None).await;
    let machine = world.machine(json!({})).await;
    let before = first.take(1).await;
    drop(first);
    // The daemon of the host is started again, and things happen meanwhile.
    world.host.restart_worker();
    for action in ["/stop", "/start", "/stop"] {
        world.post(&at(&machine, action), Value::Null).await;
    }
    let own = listed(&world, &machine).await;
    let mut again = watch(&world, "/v1/apps/web/watch", Some(&before[0].id)).await;
    let after = again.take(own.len() - 1).await;
    assert_eq!([event_ids(&before), event_ids(&after)].concat(), own);
    // A worker that starts again breaks the stream to it, not the client's.
    world.host.restart_worker();
    world.post(&at(&machine, "/start"), Value::Null).await;
    again.until("started").await;
    // A browser begins with the id in the query.
    let path = format!("/v1/apps/web/watch?last_event_id={}", again.last_id);
    let mut last = watch(&world, &path, None).await;
    world.post(&at(&machine, "/stop"), Value::Null).await;
    last.until("stopped").await;
    again.until("stopped").await;
}

#[tokio::test]
async fn what_may_have_been_missed_is_reported() {
    let world = world().await;
    world.app().await;
    let mut first = watch(&world, "/v1/apps/web/watch", None).await;
    let machine = world.machine(json!({})).await;
    let begin = first.next().await.id;
    world.post(&at(&machine, "/stop"), Value::Null).await;
    world.host.forget_events();
    world.post(&at(&machine, "/start"), Value::Null).await;
    for last_id in [begin.as_str(), "0.x"] {
        let mut again = watch(&world, "/v1/apps/web/watch", Some(last_id)).await;
        let gap = again.next().await;
        assert_eq!((gap.name.as_str(), &gap.data["host"]), ("gap", &json!(0)), "{last_id}");
        // It continues, from an id of its own.
        let mut next = watch(&world, "/v1/apps/web/watch", Some(&gap.id)).await;
        world.post(&at(&machine, "/stop"), Value::Null).await;
        again.until("stopped").await;
        next.until("stopped").await;
        world.post(&at(&machine, "/start"), Value::Null).await;
    }
}

#[tokio::test]
async fn a_host_that_is_away_is_caught_up_with() {
    let world = world_of(2).await;
    let other = world.other.clone().unwrap();
    world.app().await;
    let first = world.machine(json!({})).await;
    let (near, far) = match world.host.alive().contains(&id(&first)) {
        true => (&world.host, &other),
        false => (&other, &world.host),
    };
    far.set_reach(testkit::Reach::Away);
    let mut events = watch(&world, "/v1/apps/web/watch", None).await;
    world.post(&at(&first, "/stop"), Value::Null).await;
    let stopped = events.until("stopped").await;
    let unknown = format!("{}.x", far.id().0);
    assert!(stopped.id.contains(&unknown), "{}", stopped.id);
    assert!(!stopped.id.contains(&format!("{}.x", near.id().0)), "{}", stopped.id);
    far.set_reach(testkit::Reach::Reachable);
    let gap = events.next().await;
    assert_eq!((gap.name.as_str(), &gap.data["host"]), ("gap", &json!(far.id().0)));
    assert!(!gap.id.contains('x'), "{}", gap.id);
}

#[tokio::test]
async fn bad_watches_are_refused() {
    let world = world().await;
    world.app().await;
    for (path, code, text) in [
        ("/v1/apps/nowhere/watch", 404, "Could not find App"),
        ("/v1/orgs/nowhere/watch", 404, "Could not find Organization"),
        ("/v1/apps/web/machines/absent/events/stream", 404, "machine not found"),
        ("/v1/apps/web/watch?last_event_id=yesterday", 400, "Last-Event-ID: must be the id"),
        ("/v1/apps/web/watch?last_event_id=0.1-0.2", 400, "Last-Event-ID"),
    ] {
        let answer = world.get(path).await;
        let (status, why) = error(&answer);
        assert!(status == code && why.contains(text), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let w = world().await;
    w.app().await;
    for path in ["/v1/apps/web/watch", "/v1/apps/web/logs?follow=true"] {
        for is_revoked in [true, false] {
            let body = json!({ "type": "deploy", "app": "web", "expiry": "1h" });
            let (code, made) = w.post("/v1/orgs/personal/tokens", body).await;
            assert_eq!(code, 201, "{made}");
            let request = w.client.get(format!("http://{}{path}", w.addr));
            let request = request.header("authorization", made["token"].as_str().unwrap());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            if is_revoked {
                let token = format!("/v1/orgs/personal/tokens/{}", made["id"].as_str().unwrap());
                assert_eq!(w.delete(&token).await.0, 200);
            } else {
                w.clock.advance(Duration::from_secs(3601));
            }
            let end = answer.bytes_stream().for_each(async |_| {});
            let ended = tokio::time::timeout(Duration::from_secs(60), end).await;
            assert!(ended.is_ok(), "{path}, revoked: {is_revoked}");
        }
    }
}
