//! The OpenAPI document: it is whole, and agrees with the routes.

use crate::world::{TestWorld, world};
use control::http_api::HttpApi;
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The document that the API serves.
pub(crate) async fn document(w: &TestWorld) -> Value {
    let url = format!("http://{}/openapi.json", w.addr);
    let answer = w.client.get(url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    answer.json().await.unwrap()
}

/// Method, path and description of each operation.
pub(crate) fn operations(document: &Value) -> Vec<(Method, String, Value)> {
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

/// Checks JSON by a schema that may refer to those of the document.
pub(crate) fn validator(document: &Value, schema: &Value) -> Validator {
    let mut whole = json!({ "components": document["components"] });
    // The schema of anything is `true`.
    whole.as_object_mut().unwrap().extend(schema.as_object().cloned().unwrap_or_default());
    jsonschema::validator_for(&whole).unwrap_or_else(|err| panic!("{schema}: {err}"))
}
