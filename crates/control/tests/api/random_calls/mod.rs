//! Random calls of every operation are answered as the OpenAPI document describes.
//!
//! [`values`] makes values by the schemas, [`scene`] the things that calls can refer to, and bodies that refer
//! to them.

mod scene;
mod values;

use crate::openapi::{document, operations, validator};
use crate::world::world;
use jsonschema::Validator;
use rt::Rng;
use scene::Scene;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use values::Values;

/// Random calls of each operation.
const ROUNDS: usize = 16;
/// Operations that no request of this test can succeed with, and why.
const NEVER: &[(&str, &str)] = &[
    ("streamExec", "it needs the handshake of a WebSocket"),
    ("createOidcToken", "only machines are given such tokens"),
    ("getLogin", "the id of a login is a secret"),
    ("getLoginPage", "the id of a login is a secret"),
    ("completeLogin", "the id of a login is a secret"),
    ("loginWithPassword", "the password is a token"),
];

/// A random call of an operation: its URL and its body.
fn call(
    values: &Values<'_>,
    path: &str,
    operation: &Value,
    scene: &Scene,
) -> (String, Option<String>) {
    let id = operation["operationId"].as_str().unwrap();
    // Now and then everything is as the scene knows it: such a call can succeed.
    let known = values.below(3) == 0;
    let parts = path.split('/').map(|part| {
        if !part.starts_with('{') {
            return part.to_owned();
        }
        // An empty part would lead to another route.
        let text = (!known && values.below(8) == 0).then(|| values.text().replace('/', ""));
        let text = text.filter(|text| !text.is_empty());
        text.map_or_else(|| scene.part(id, part), |text| url_encoded(&text))
    });
    let mut url = parts.collect::<Vec<_>>().join("/");
    let mut separator = '?';
    let mut add = |name: &str, text: &str| {
        url += &format!("{separator}{name}={}", url_encoded(text));
        separator = '&';
    };
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] != "query" {
            continue;
        }
        let name = parameter["name"].as_str().unwrap();
        // A wait and a followed log do not end by themselves.
        let value = match name {
            "follow" => continue,
            "timeout" => json!(0),
            _ if known || values.below(2) == 0 => continue,
            _ => values.value(&parameter["schema"], 5),
        };
        add(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    for (name, text) in if known { scene.query(id) } else { Vec::new() } {
        add(name, &text);
    }
    if path.ends_with("/wait") && !url.contains("timeout=") {
        url += &format!("{separator}timeout=0");
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let body = match (scene.body(id), values.below(15)) {
        (Some(body), _) if known => Some(body.to_string()),
        _ if schema.is_null() => None,
        (_, 0) => Some("{\"config\":".to_owned()),
        (_, 1) => Some("[".repeat(200)),
        _ => Some(values.value(schema, 0).to_string()),
    };
    (url, body)
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn random_calls_are_answered_as_the_document_describes() {
    let w = world().await;
    let document = document(&w).await;
    let values = Values { document: &document, rng: Rng::seeded(20_261_129) };
    let mut codes: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        let answers = operation["responses"].as_object().unwrap();
        let validators: BTreeMap<&str, Validator> = answers
            .iter()
            .map(|(code, answer)| {
                let pointer = answer["$ref"].as_str().map(|to| to.trim_start_matches('#'));
                let answer = pointer.map_or(answer, |to| document.pointer(to).unwrap());
                let schema = &answer["content"]["application/json"]["schema"];
                let any = json!({});
                (
                    code.as_str(),
                    validator(&document, if schema.is_object() { schema } else { &any }),
                )
            })
            .collect();
        for _ in 0..ROUNDS {
            let scene = Scene::of(&w, &id).await;
            let (url, body) = call(&values, &path, &operation, &scene);
            let mut request = w.request(method.clone(), &url);
            if let Some(body) = body.clone() {
                request = request.body(body);
            }
            let answer = request.send().await.unwrap();
            let code = answer.status().as_u16();
            codes.entry(id.clone()).or_default().insert(code);
            let what = format!("{method} {url:.300} {:.600}", body.unwrap_or_default());
            // A call over a WebSocket is refused without its handshake.
            let handshake = id == "streamExec" && code == 426;
            assert!(code < 500 || code == 502, "{code}: {what}");
            assert!(handshake || answers.contains_key(code.to_string().as_str()), "{code}: {what}");
            let kind = answer.headers().get("content-type");
            if handshake || kind.is_none_or(|kind| kind != "application/json") {
                assert!(code < 400 || handshake, "{code} without JSON: {what}");
                continue;
            }
            let body: Value = answer.json().await.unwrap();
            let errors: Vec<String> = validators[code.to_string().as_str()]
                .iter_errors(&body)
                .map(|err| format!("{} at {}", err, err.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{code}: {what}\n{errors:#?}\n{body}");
        }
    }
    // Every operation has succeeded with some of its calls.
    let succeeds = |codes: &BTreeSet<u16>| codes.iter().any(|code| *code < 300);
    let never: BTreeSet<&str> =
        codes.iter().filter(|(_, codes)| !succeeds(codes)).map(|(id, _)| id.as_str()).collect();
    let expected: BTreeSet<&str> = NEVER.iter().map(|(id, _)| *id).collect();
    assert_eq!(never, expected, "{codes:?}");
}
