//! The document as a page: plain HTML, without scripts and without anything from elsewhere.

use super::document::document;
use crate::http_api::html::escaped as text;
use crate::{Entry, Kind};
use serde_json::Value;
use std::fmt::Write;
use std::sync::LazyLock;

static HTML: LazyLock<String> = LazyLock::new(|| render(&document()));

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    code,.path{font-family:ui-monospace,monospace}\
    summary{cursor:pointer;padding:.3rem 0}details details{margin-left:1rem}\
    .method{display:inline-block;width:5rem;font-weight:600}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #8884}\
    .note{color:#777}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}";

/// The page.
pub(in crate::http_api) fn html() -> &'static str {
    &HTML
}

fn render(document: &Value) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>Updraft API</title>\
         <meta name=viewport content='width=device-width'><style>{STYLE}</style><h1>Updraft API</h1><p>{}</p>\
         <p><a href='/openapi.json'>openapi.json</a> (OpenAPI {})</p>",
        escaped(&document["info"]["description"]),
        escaped(&document["openapi"]),
    );
    for tag in list(&document["tags"]) {
        let (name, description) = (escaped(&tag["name"]), escaped(&tag["description"]));
        let _ = write!(page, "<h2 id='{name}'>{name}</h2><p>{description}</p>");
        for (path, item) in entries(&document["paths"]) {
            for (method, operation) in entries(item) {
                if operation["tags"][0] == tag["name"] {
                    operation_html(&mut page, path, method, item, operation);
                }
            }
        }
    }
    errors_html(&mut page);
    page.push_str("<h2>Schemas</h2>");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        schema_html(&mut page, name, schema);
    }
    page.push_str("</html>");
    page
}

/// The error catalogue; the `docs` of an error leads to one of these rows.
fn errors_html(page: &mut String) {
    page.push_str("<h2 id=errors>Errors</h2><table><tr><th>code<th>status<th>meaning<th>remedy");
    for Entry { code, http, meaning, remedy, .. } in Kind::ALL.map(Kind::entry) {
        let (meaning, remedy) = (text(meaning), text(remedy));
        let _ = write!(
            page,
            "<tr id='error-{code}'><td><code>{code}</code><td>{http}<td>{meaning}<td>{remedy}"
        );
    }
    page.push_str("</table>");
}

fn operation_html(page: &mut String, path: &str, method: &str, item: &Value, operation: &Value) {
    let addition = match operation["x-updraft-addition"] == true {
        true => " <span class=note>(addition)</span>",
        false => "",
    };
    let _ = write!(
        page,
        "<details id='{}'><summary><span class=method>{}</span><span class=path>{}</span>: {}{addition}</summary><p>{}</p>",
        escaped(&operation["operationId"]),
        text(&method.to_uppercase()),
        text(path),
        escaped(&operation["summary"]),
        escaped(&operation["description"]),
    );
    let parameters: Vec<&Value> =
        list(&item["parameters"]).iter().chain(list(&operation["parameters"])).collect();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter<th>in<th>type<th>");
        for parameter in parameters {
            let _ = write!(
                page,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
                escaped(&parameter["name"]),
                escaped(&parameter["in"]),
                kind(&parameter["schema"]),
                escaped(&parameter["description"]),
            );
        }
        page.push_str("</table>");
    }
    for (kind_of, body) in entries(&operation["requestBody"]["content"]) {
        let _ = write!(page, "<p>Body, <code>{}</code>: {}", text(kind_of), kind(&body["schema"]));
    }
    for (code, answer) in entries(&operation["responses"]) {
        if answer["$ref"].is_null() {
            let _ = write!(page, "<p>{}: {}", text(code), escaped(&answer["description"]));
        }
        for (kind_of, body) in entries(&answer["content"]) {
            let _ = write!(page, ", <code>{}</code>: {}", text(kind_of), kind(&body["schema"]));
        }
    }
    page.push_str("</details>");
}

fn schema_html(page: &mut String, name: &str, schema: &Value) {
    let name = text(name);
    let description = escaped(&schema["description"]);
    let _ = write!(
        page,
        "<details id='schema-{name}'><summary><code>{name}</code></summary><p>{description}</p>"
    );
    let required: Vec<&str> = list(&schema["required"]).iter().filter_map(Value::as_str).collect();
    page.push_str("<table>");
    for (field, of) in entries(&schema["properties"]) {
        let must = if required.contains(&field) { " (always)" } else { "" };
        let _ = write!(
            page,
            "<tr><td><code>{}</code>{must}<td>{}<td>{}",
            text(field),
            kind(of),
            escaped(&of["description"]),
        );
    }
    page.push_str("</table></details>");
}

/// The type of a schema, with links to the named ones.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = text(name.rsplit('/').next().unwrap_or(name));
        return format!("<a href='#schema-{name}'>{name}</a>");
    }
    for any in ["anyOf", "oneOf"] {
        let of = list(&schema[any]);
        if !of.is_empty() {
            let kinds: Vec<String> =
                of.iter().filter(|of| of["type"] != "null").map(kind).collect();
            return kinds.join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(array) if array == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(object) if object == "object" => match &schema["additionalProperties"] {
            of @ Value::Object(_) => format!("map of {}", kind(of)),
            _ => "object".into(),
        },
        Value::String(name) => text(name),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.map(text).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".into(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn escaped(value: &Value) -> String {
    value.as_str().map(text).unwrap_or_default()
}
