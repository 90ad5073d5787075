//! Random values, most of them as the schema of the OpenAPI document describes.

use rt::Rng;
use serde_json::{Map, Value, json};

/// Makes values, most of them as a schema describes.
pub(super) struct Values<'a> {
    pub(super) document: &'a Value,
    pub(super) rng: Rng,
}

impl Values<'_> {
    pub(super) fn below(&self, end: usize) -> usize {
        (self.rng.wide_bits() % end as u128) as usize
    }

    fn one<'b, T>(&self, of: &'b [T]) -> &'b T {
        &of[self.below(of.len())]
    }

    pub(super) fn text(&self) -> String {
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

    pub(super) fn value(&self, schema: &Value, depth: usize) -> Value {
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
