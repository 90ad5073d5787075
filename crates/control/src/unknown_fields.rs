//! Fields of a request that its type does not have. They are found with the JSON schema of the
//! type, so that a field that is added to a type needs no line here.

use crate::config::is_set;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Characters of a field's name that are shown.
const MAX_NAME: usize = 40;

/// A warning of each field of [`paths`].
pub(crate) fn warnings<T: JsonSchema>(value: &Value) -> Vec<String> {
    let text = |path| format!("{path}: is not known to this version and is not acted on");
    paths::<T>(value).into_iter().map(text).collect()
}

/// The paths of the fields with a value that `T` does not have, such as
/// `config.services[0].typo`. A zero value is passed over: clients send all fields of their own
/// types.
fn paths<T: JsonSchema>(value: &Value) -> Vec<String> {
    let schema = schema_of::<T>();
    let mut walk = Walk { definitions: &schema["$defs"], found: Vec::new() };
    walk.value(&schema, value, "");
    walk.found
}

/// The schema of `T`, generated at the first use.
fn schema_of<T: JsonSchema>() -> Arc<Value> {
    static SCHEMAS: LazyLock<Mutex<BTreeMap<Cow<'static, str>, Arc<Value>>>> =
        LazyLock::new(Mutex::default);
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    let generate = || {
        let generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
        Arc::new(generator.into_root_schema_for::<T>().to_value())
    };
    schemas.entry(T::schema_id()).or_insert_with(generate).clone()
}

struct Walk<'a> {
    definitions: &'a Value,
    found: Vec<String>,
}

impl<'a> Walk<'a> {
    /// The value has passed deserialization, so that it has the shape of its schema wherever
    /// the schema gives one.
    fn value(&mut self, schema: &'a Value, value: &Value, at: &str) {
        let schema = self.resolved(schema);
        match value {
            Value::Array(entries) => {
                let Some(items) = schema.get("items") else { return };
                for (i, entry) in entries.iter().enumerate() {
                    self.value(items, entry, &format!("{at}[{i}]"));
                }
            }
            Value::Object(fields) => self.object(schema, fields, at),
            _ => {}
        }
    }

    fn object(&mut self, schema: &'a Value, fields: &serde_json::Map<String, Value>, at: &str) {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        for (name, value) in fields {
            let path = join(at, name);
            let own = known.and_then(|known| known.get(name).or_else(|| by_alias(known, name)));
            match own.or(others) {
                Some(schema) => self.value(schema, value, &path),
                // Without a list of properties any name is a value, such as a label's.
                None if known.is_some() && is_set(value) => self.found.push(path),
                None => {}
            }
        }
    }

    /// Follows references, and passes over the `null` of an optional value.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.definitions.get(name).map_or(schema, |schema| self.resolved(schema));
        }
        let choices = schema.get("anyOf").and_then(Value::as_array);
        let is_null = |schema: &&Value| schema.get("type").is_some_and(|kind| kind == "null");
        match choices.and_then(|choices| choices.iter().find(|choice| !is_null(choice))) {
            Some(choice) => self.resolved(choice),
            None => schema,
        }
    }
}

/// The property that may have this name, too.
fn by_alias<'a>(known: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    let has = |schema: &&Value| {
        let aliases = schema.get("x-aliases").and_then(Value::as_array);
        aliases.is_some_and(|aliases| aliases.iter().any(|alias| alias == name))
    };
    known.values().find(has)
}

fn join(at: &str, name: &str) -> String {
    let name: String = name.chars().take(MAX_NAME).collect();
    if at.is_empty() { name } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::machines::{LaunchMachine, MachineConfig};

    #[test]
    fn a_field_is_found_wherever_it_is() {
        let launch = json!({
            "typo": 1,
            "zero": { "a": [], "b": false, "c": null },
            "config": {
                "env": { "ANY": "name" },
                "metadata": { "any": "name" },
                "dns": { "typo": "x", "options": [{ "name": "ndots", "typo": 1 }] },
                "restart": { "policy": "no", "typo": 1 },
                "stop_config": { "typo": 1 },
                "rootfs": { "typo": 1 },
                "files": [{ "guest_path": "/a", "typo": 1 }],
                "mounts": [{ "path": "/a", "typo": 1 }],
                "services": [{ "concurrency": { "typo": 1 }, "ports": [{
                    "tls_options": { "alpn": ["h2"] },
                    "http_options": { "compress": true, "idle_timeout": 5, "headers": null,
                                      "response": { "pristine": true, "headers": { "a": "b" } } },
                }] }],
                "checks": { "c": { "headers": [{ "name": "a", "typo": 1 }] } },
                "processes": [{ "env_from": [{ "typo": 1 }], "secrets": [{ "typo": 1 }] }],
                "containers": [{ "depends_on": [{ "typo": 1 }], "mounts": [{ "typo": 1 }],
                                 "healthchecks": [{ "tcp": { "typo": 1 } }] }],
                "volumes": [{ "temp_dir": { "typo": 1 } }],
            },
        });
        assert_eq!(
            paths::<LaunchMachine>(&launch),
            [
                "config.checks.c.headers[0].typo",
                "config.containers[0].depends_on[0].typo",
                "config.containers[0].healthchecks[0].tcp.typo",
                "config.containers[0].mounts[0].typo",
                "config.dns.options[0].typo",
                "config.dns.typo",
                "config.files[0].typo",
                "config.mounts[0].typo",
                "config.processes[0].env_from[0].typo",
                "config.processes[0].secrets[0].typo",
                "config.restart.typo",
                "config.rootfs.typo",
                "config.services[0].concurrency.typo",
                "config.services[0].ports[0].http_options.compress",
                "config.services[0].ports[0].http_options.response.headers",
                "config.services[0].ports[0].tls_options",
                "config.stop_config.typo",
                "config.volumes[0].temp_dir.typo",
                "typo",
            ]
        );
    }

    /// What a client has put into a config is there when it reads the config again.
    #[test]
    fn every_type_of_a_config_keeps_the_fields_that_it_does_not_know() {
        let schema = schema_of::<MachineConfig>();
        let definitions = schema["$defs"].as_object().unwrap();
        let all = definitions.iter().map(|(name, schema)| (name.as_str(), schema));
        for (name, schema) in all.chain([("MachineConfig", &*schema)]) {
            if schema.get("properties").is_some() {
                // `false` refuses them.
                let others = &schema["additionalProperties"];
                assert!(others.is_boolean(), "{name} has no field `extra`: {others}");
            }
        }
    }
}
