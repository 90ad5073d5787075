//! Recorded requests are sent again, and the answers compared with the recorded ones.

use super::exchange::{self, Exchange};
use super::record::{ADMIN, Recorder};
use super::script::Script;
use reqwest::Method;
use serde_json::Value;

/// Texts and numbers shorter than this are no ids: they are the same in every run.
const SHORTEST_ID: usize = 10;

#[tokio::test]
async fn recorded_conversations_are_answered_as_before() {
    let script = Script::load();
    let mut wrong = Vec::new();
    for group in script.group.iter().filter(|group| !group.not_replayed) {
        let recorder = Recorder::new().await;
        let mut ids = Ids::default();
        for (n, recorded) in exchange::load(&group.name).into_iter().enumerate() {
            recorder.begin(&recorded.of).await;
            let (status, answer) = send(&recorder, &ids, &recorded).await;
            let mut differences = Vec::new();
            if status != recorded.status {
                differences.push(format!("status {status}, not {}: {answer}", recorded.status));
            }
            ids.learn(&recorded.answer, &answer);
            compare(&recorded.answer, &answer, "answer", &mut differences);
            let Exchange { of, method, path, .. } = &recorded;
            wrong.extend(differences.into_iter().map(|difference| {
                format!("{} line {}, fly {of}: {method} {path}: {difference}", group.name, n + 1)
            }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn send(recorder: &Recorder, ids: &Ids, recorded: &Exchange) -> (u16, Value) {
    let method = recorded.method.parse::<Method>().unwrap();
    let url = format!("http://{}{}", recorder.addr, ids.now(&recorded.path));
    let admin = format!("Bearer {ADMIN}");
    let token = recorded.token.as_ref().map_or(admin, |token| ids.now(token));
    let mut request = recorder.world.client.request(method, url).header("authorization", token);
    if let Some(nonce) = &recorded.nonce {
        request = request.header("fly-machine-lease-nonce", ids.now(nonce));
    }
    if !recorded.body.is_null() {
        let body = ids.now(&recorded.body.to_string());
        request = request.header("content-type", "application/json").body(body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
}

/// Ids of the recorded run and those that stand for them in this one.
#[derive(Default)]
struct Ids(Vec<(String, String)>);

impl Ids {
    /// Where both answers have a text at the same place, the texts are the same id.
    fn learn(&mut self, recorded: &Value, live: &Value) {
        match (recorded, live) {
            (Value::String(recorded), Value::String(live))
                if recorded != live && recorded.len() >= SHORTEST_ID =>
            {
                self.0.push((recorded.clone(), live.clone()));
            }
            // Builds have numbers.
            (Value::Number(recorded), Value::Number(live)) if recorded != live => {
                let (recorded, live) = (recorded.to_string(), live.to_string());
                if recorded.len() >= SHORTEST_ID {
                    self.0.push((recorded, live));
                }
            }
            (Value::Array(recorded), Value::Array(live)) => {
                recorded.iter().zip(live).for_each(|(recorded, live)| self.learn(recorded, live));
            }
            (Value::Object(recorded), Value::Object(live)) => {
                for (key, recorded) in recorded {
                    self.learn(recorded, live.get(key).unwrap_or(&Value::Null));
                }
            }
            _ => {}
        }
    }

    fn now(&self, text: &str) -> String {
        let replace = |text: String, (was, is): &(String, String)| text.replace(was, is);
        self.0.iter().fold(text.to_owned(), replace)
    }
}

/// Fields, types and numbers of entries are the same.
fn compare(recorded: &Value, live: &Value, at: &str, into: &mut Vec<String>) {
    match (recorded, live) {
        (Value::Array(recorded), Value::Array(live)) => {
            if recorded.len() != live.len() {
                into.push(format!("{at} has {} entries, not {}", live.len(), recorded.len()));
            }
            for (n, (recorded, live)) in recorded.iter().zip(live).enumerate() {
                compare(recorded, live, &format!("{at}[{n}]"), into);
            }
        }
        (Value::Object(recorded), Value::Object(live)) => {
            for (key, recorded) in recorded {
                match live.get(key) {
                    Some(live) => compare(recorded, live, &format!("{at}.{key}"), into),
                    None => into.push(format!("{at} has no {key}")),
                }
            }
            let added = live.keys().filter(|key| !recorded.contains_key(*key));
            into.extend(added.map(|key| format!("{at} has a new {key}")));
        }
        (recorded, live) => {
            if std::mem::discriminant(recorded) != std::mem::discriminant(live) {
                into.push(format!("{at} is {live}, not {recorded}"));
            }
        }
    }
}

#[test]
fn a_difference_of_shape_is_found() {
    let (recorded, live) = (
        serde_json::json!({"a": [1, "x"], "b": null, "c": {"d": true}}),
        serde_json::json!({"a": [1, 2, 3], "b": "text", "c": {"e": true}}),
    );
    let mut found = Vec::new();
    compare(&recorded, &live, "answer", &mut found);
    let wanted = [
        "answer.a has 3 entries, not 2",
        "answer.a[1] is 2, not \"x\"",
        "answer.b is \"text\", not null",
        "answer.c has no d",
        "answer.c has a new e",
    ];
    assert_eq!(found, wanted);
    found.clear();
    compare(&recorded, &recorded, "answer", &mut found);
    assert!(found.is_empty());
}
