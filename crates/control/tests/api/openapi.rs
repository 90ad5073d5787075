//! The OpenAPI document: it agrees with the routes, and random calls are answered as it describes.

use crate::world::{TestWorld, world};
use control::http_api::HttpApi;
use jsonschema::Validator;
use reqwest::Method;
use rt::Rng;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Random calls of each operation.
const ROUNDS: usize = 24;

async fn document(w: &TestWorld) -> Value {
    let url = format!("http://{}/openapi.json", w.addr);
    let answer = w.client.get(url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    answer.json().await.unwrap()
}

/// Method, path and description of each operation.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters");
        methods.map(|(method, operation)| {
            (method.to_uppercase().parse().unwrap(), path.clone(), operation.clone())
        })
    });
    operations.collect()
}

#[tokio::test]
async fn routes_and_document_agree() {
    let w = world().await;
    let document = document(&w).await;
    let described: BTreeSet<(String, String)> = operations(&document)
        .into_iter()
        .map(|(method, path, _)| (method.to_string(), path))
        .collect();
    // Paths of parts that are not built have no method of their own.
    let routes: BTreeSet<(String, String)> = HttpApi::routes()
        .into_iter()
        .filter_map(|route| Some((route.method?.to_string(), route.path.replace("{*", "{"))))
        .collect();
    assert_eq!(described, routes);
}

#[tokio::test]
async fn the_document_is_complete_in_itself() {
    let w = world().await;
    let document = document(&w).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        assert!(operation["description"].is_string(), "{method} {path}");
        let parameters = document["paths"][&path]["parameters"].as_array().unwrap();
        let named: Vec<String> =
            parameters.iter().map(|p| format!("{{{}}}", p["name"].as_str().unwrap())).collect();
        let in_path: Vec<&str> = path.split('/').filter(|part| part.starts_with('{')).collect();
        assert_eq!(named, in_path, "{path}");
    }
    // Every reference leads somewhere, and every schema is one.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.len() > 40, "{}", schemas.len());
    for name in schemas.keys() {
        validator(&document, &json!({ "$ref": format!("#/components/schemas/{name}") }));
        assert!(schemas[name]["description"].is_string(), "{name} has no description");
    }
}

#[tokio::test]
async fn the_page_shows_every_call_and_loads_nothing() {
    let w = world().await;
    let document = document(&w).await;
    let answer = w.client.get(format!("http://{}/docs", w.addr)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let page = answer.text().await.unwrap();
    for (_, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.contains(&format!("id='{id}'")) && page.contains(&path), "{id}");
    }
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("src="));
}

fn validator(document: &Value, schema: &Value) -> Validator {
    let mut whole = json!({ "components": document["components"] });
    // The schema of anything is `true`.
    whole.as_object_mut().unwrap().extend(schema.as_object().cloned().unwrap_or_default());
    jsonschema::validator_for(&whole).unwrap_or_else(|err| panic!("{schema}: {err}"))
}

/// Makes values, most of them as a schema describes.
struct Values<'a> {
    document: &'a Value,
    rng: Rng,
}

impl Values<'_> {
    fn below(&self, end: usize) -> usize {
        (self.rng.wide_bits() % end as u128) as usize
    }

    fn one<'b, T>(&self, of: &'b [T]) -> &'b T {
        &of[self.below(of.len())]
    }

    fn text(&self) -> String {
        let words = [
            "",
            "nginx",
            "web",
            "started",
            "stopped",
            "10s",
            "SIGTERM",
            "/",
            "a b",
            "00000000000000",
            "ünïcode ☂",
            "-1",
            "no",
            "always",
            "http",
            "tcp",
            "shared",
            "YQ==",
            "x\u{0}y",
            "{}",
            "1.5",
            "true",
            "../..",
            "%00",
        ];
        match self.below(24) {
            0 => "x".repeat(5000),
            _ => (*self.one(&words)).to_owned(),
        }
    }

    fn number(&self) -> Value {
        let numbers =
            [0, 1, 2, 256, 8080, 65535, 65536, -1, i64::from(u32::MAX), i64::MAX, i64::MIN];
        json!(self.one(&numbers))
    }

    /// Anything.
    fn wild(&self) -> Value {
        match self.below(6) {
            0 => Value::Null,
            1 => json!(true),
            2 => self.number(),
            3 => json!([self.text()]),
            4 => json!({ self.text(): self.text() }),
            _ => json!(self.text()),
        }
    }

    fn value(&self, schema: &Value, depth: usize) -> Value {
        if self.below(25) == 0 || depth > 6 {
            return self.wild();
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.document.pointer(reference.trim_start_matches('#')).unwrap();
            return self.value(target, depth);
        }
        for any in ["anyOf", "oneOf"] {
            if let Some(of) = schema[any].as_array() {
                return self.value(self.one(of), depth + 1);
            }
        }
        if let Some(of) = schema["enum"].as_array() {
            return self.one(of).clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => self.one(kinds).as_str().unwrap().to_owned(),
            kind => kind.as_str().unwrap_or("").to_owned(),
        };
        match kind.as_str() {
            "null" => Value::Null,
            "boolean" => json!(self.below(2) == 0),
            "integer" | "number" => self.number(),
            "string" => json!(self.text()),
            "array" => {
                let items = (0..self.below(3)).map(|_| self.value(&schema["items"], depth + 1));
                Value::Array(items.collect())
            }
            _ => self.object(schema, depth),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            let required = schema["required"].as_array().is_some_and(|r| r.contains(&json!(name)));
            // An app and an image that exist make other fields matter.
            match name.as_str() {
                "image" => drop(object.insert(name.clone(), json!("nginx"))),
                "config" if self.below(4) > 0 => {
                    object.insert(name.clone(), self.value(of, depth + 1));
                }
                _ if required || self.below(3) == 0 => {
                    object.insert(name.clone(), self.value(of, depth + 1));
                }
                _ => {}
            }
        }
        if schema["additionalProperties"].is_object() || self.below(12) == 0 {
            object.insert(self.text(), self.value(&schema["additionalProperties"], depth + 1));
        }
        Value::Object(object)
    }
}

/// A random call of an operation: its URL and its body.
fn call(
    values: &Values<'_>,
    path: &str,
    operation: &Value,
    machine: &str,
) -> (String, Option<String>) {
    let parts = path.split('/').map(|part| {
        let known = match part {
            "{app}" => "web",
            "{machine}" => machine,
            "{org}" => "personal",
            "{key}" => "role",
            part if part.starts_with('{') => "app",
            part => return part.to_owned(),
        };
        // An empty part would lead to another route.
        let text = (values.below(8) == 0).then(|| values.text().replace('/', ""));
        let text = text.filter(|text| !text.is_empty());
        text.map_or_else(|| known.to_owned(), |text| url_encoded(&text))
    });
    let mut url = parts.collect::<Vec<_>>().join("/");
    let mut separator = '?';
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] != "query" {
            continue;
        }
        let name = parameter["name"].as_str().unwrap();
        // A wait and a followed log do not end by themselves.
        let value = match name {
            "follow" => continue,
            "timeout" => json!(0),
            _ if values.below(2) == 0 => continue,
            _ => values.value(&parameter["schema"], 5),
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        url += &format!("{separator}{name}={}", url_encoded(&text));
        separator = '&';
    }
    if path.ends_with("/wait") && !url.contains("timeout=") {
        url += &format!("{separator}timeout=0");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let body = (!body.is_null()).then(|| match values.below(15) {
        0 => "{\"config\":".to_owned(),
        1 => "[".repeat(200),
        _ => values.value(body, 0).to_string(),
    });
    (url, body)
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn random_calls_are_answered_as_the_document_describes() {
    let w = world().await;
    w.app().await;
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
            // What was deleted is there again.
            w.post("/v1/apps", json!({ "app_name": "web" })).await;
            let machine = match w.get("/v1/apps/web/machines?state=started").await.1 {
                Value::Array(of) if !of.is_empty() => of[0].clone(),
                _ => w.machine(json!({})).await,
            };
            let machine = machine["id"].as_str().unwrap();
            let (url, body) = call(&values, &path, &operation, machine);
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
    // The calls are not all refused.
    let succeeded = codes.values().filter(|codes| codes.iter().any(|code| *code < 300)).count();
    assert!(succeeded * 2 > codes.len(), "{codes:?}");
}
