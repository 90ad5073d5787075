//! The document as a whole.

use super::operation::{Content, Kind, Operation, Parameter};
use super::operations;
use crate::Kind as ErrorKind;
use crate::access::Need;
use crate::http_api::HttpApi;
use axum::http::{Method, StatusCode};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Statuses of errors that any call may be answered with.
const ERRORS: [u16; 11] = [400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504];
/// Further ones of calls that change something, or act on a machine.
const ERRORS_OF_CHANGES: [u16; 4] = [409, 412, 422, 502];

static JSON: LazyLock<String> = LazyLock::new(|| document().to_string());

/// The document as text.
pub(in crate::http_api) fn json() -> &'static str {
    &JSON
}

/// The document.
pub(super) fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for (tag, description, operations) in operations::all() {
        tags.push(json!({ "name": tag, "description": description }));
        for operation in operations {
            let path = paths.entry(operation.path).or_insert_with(|| path_item(operation.path));
            let method = operation.method.as_str().to_ascii_lowercase();
            path[&method] = described(&operation, tag, &mut generator);
        }
    }
    let _ = generator.subschema_for::<wire::machines::ErrorBody>();
    let mut schemas = generator.take_definitions(true);
    schemas.remove("$schema");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Updraft",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "The Machines API as Fly.io documents it \
                (https://fly.io/docs/machines/api/), with additions that are marked with \
                `x-updraft-addition`. Every answer has the header `fly-request-id`.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas,
            "responses": responses(),
        },
    })
}

fn responses() -> Value {
    let schema = json!({ "$ref": "#/components/schemas/ErrorBody" });
    let response = |status: &u16| {
        let entries = ErrorKind::ALL.map(ErrorKind::entry);
        let texts = entries.iter().filter(|entry| entry.http == *status);
        let texts = texts.map(|entry| format!("`{}`: {}", entry.code, entry.meaning));
        json!({
            "description": texts.collect::<Vec<_>>().join(" "),
            "content": { "application/json": { "schema": schema } },
        })
    };
    let all = ERRORS.iter().chain(&ERRORS_OF_CHANGES);
    all.map(|status| (name_of(*status), response(status))).collect()
}

/// The name of the answers with a status of an error.
fn name_of(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    reason.unwrap_or("Failed").replace(' ', "")
}

/// The names in the braces of a path, which are those of things.
fn path_item(path: &str) -> Value {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = names
        .map(|name| {
            let description = match name {
                "app" => "Name of an app.",
                "machine" => "Id or name of a machine.",
                "org" => "Slug of an organization.",
                "key" => "Key of a label.",
                "token" => "Public id of a token.",
                "release" => "Id of a release.",
                "email" => "E-mail address of a member.",
                _ => "Name of the thing.",
            };
            json!({
                "name": name.trim_start_matches('*'), "in": "path", "required": true,
                "description": description, "schema": { "type": "string" },
            })
        })
        .collect();
    json!({ "parameters": parameters })
}

fn described(operation: &Operation, tag: &str, generator: &mut SchemaGenerator) -> Value {
    let need = HttpApi::routes().into_iter().find(|route| {
        // A part that takes the rest of a path is written as any other here.
        let path = route.path.replace("{*", "{");
        path == operation.path && route.method.as_ref() == Some(&operation.method)
    });
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag],
        "parameters": parameters(operation),
        "responses": answers(operation, generator),
    });
    if let Some(need) = need {
        described["description"] = permission(&need.need).into();
    }
    if let Some(body) = operation.body {
        described["requestBody"] = json!({ "content": content(body, generator) });
    }
    if operation.addition {
        described["x-updraft-addition"] = true.into();
    }
    described
}

/// The permission that a call needs, in words.
fn permission(need: &Need) -> String {
    let subject = format!("{:?}", need.subject).to_lowercase();
    let feature = need.feature.map(|feature| format!(" ({feature})")).unwrap_or_default();
    let itself = if need.by_itself { " A machine may do so itself without a token." } else { "" };
    match need.subject {
        crate::access::Subject::Open => "Needs no token.".to_owned(),
        crate::access::Subject::Token => "Needs any valid token.".to_owned(),
        crate::access::Subject::Several => {
            "Needs a valid token; shows or changes what the token permits.".to_owned()
        }
        crate::access::Subject::Platform => "Needs an admin token.".to_owned(),
        _ => format!(
            "Needs the permission to {} the {subject}{feature}.{itself}",
            need.action.words()
        ),
    }
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut parameters: Vec<Value> = operation.query.iter().map(parameter).collect();
    if operation.method != Method::GET {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "schema": { "type": "string" },
            "description": "The call is carried out once per key; a repetition has the same answer. (addition)",
        }));
    }
    parameters
}

fn parameter(parameter: &Parameter) -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let (name, schema) = match parameter.kind {
        Kind::Text => (parameter.name, json!({ "type": "string" })),
        Kind::List => (parameter.name, texts),
        Kind::Flag => (parameter.name, json!({ "type": "boolean" })),
        Kind::Number => (parameter.name, json!({ "type": "integer" })),
        Kind::Duration => (parameter.name, json!({ "type": ["integer", "string"] })),
        Kind::Prefix => (
            parameter.name,
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        ),
    };
    let mut value = json!({
        "name": name, "in": "query", "required": false, "schema": schema,
        "description": parameter.description,
    });
    match parameter.kind {
        Kind::List => value["explode"] = false.into(),
        Kind::Prefix => value["style"] = "deepObject".into(),
        _ => {}
    }
    value
}

fn answers(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let (code, body) = operation.answer;
    let mut success = json!({ "description": code.canonical_reason().unwrap_or("Done") });
    if !matches!(body, Content::Empty | Content::WebSocket) {
        success["content"] = content(body, generator);
    }
    let codes = std::iter::once(code).chain(operation.or);
    let mut all: Map<String, Value> =
        codes.map(|code| (code.as_str().to_owned(), success.clone())).collect();
    let changes = operation.method != Method::GET || operation.path.contains("{machine}");
    let further: &[u16] = match (changes, operation.unsupported) {
        (true, _) => &ERRORS_OF_CHANGES,
        (false, true) => &[422],
        (false, false) => &[],
    };
    for status in ERRORS.iter().chain(further) {
        let reference = format!("#/components/responses/{}", name_of(*status));
        all.insert(status.to_string(), json!({ "$ref": reference }));
    }
    Value::Object(all)
}

fn content(content: Content, generator: &mut SchemaGenerator) -> Value {
    let mut typed = |kind: &str, schema: super::operation::SchemaOf| json!({ kind: { "schema": schema(generator) } });
    match content {
        Content::Empty | Content::WebSocket => json!({}),
        Content::Json(schema) => typed("application/json", schema),
        Content::Lines(schema) => typed("application/x-ndjson", schema),
        Content::Events(schema) => typed("text/event-stream", schema),
        Content::LinesOrEvents(schema) => json!({
            "application/x-ndjson": { "schema": schema(generator) },
            "text/event-stream": { "schema": schema(generator) },
        }),
        Content::Text(kind) => json!({ kind: { "schema": { "type": "string" } } }),
        Content::Tar => json!({ "application/x-tar": {} }),
    }
}
