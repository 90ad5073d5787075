//! A merge patch of a machine's config (RFC 7396): what it names is changed, and the
//! rest of the config stays. The result is an update, with one new version.

use super::read::get;
use super::update::update_with;
use crate::{Error, Kind, Platform};
use host_api::ChangeMetadata;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use wire::machines::{LaunchMachine, Machine, MachineConfig};

/// Tries against other writers, if the caller names no version.
const TRIES: usize = 5;

/// Merges `patch` into the current config, and updates the machine with the result. With
/// `launch.current_version` only if that is the current version.
///
/// # Errors
/// The patch or its result is not valid, the version is not current, or a host failed.
pub async fn patch(
    platform: &Platform,
    app: &str,
    machine: &str,
    patch: &Map<String, Value>,
    launch: LaunchMachine,
) -> Result<Machine, Error> {
    let named = launch.current_version.clone().filter(|version| !version.is_empty());
    for _ in 0..TRIES {
        let current = get(platform, app, machine, false).await?;
        let unknown = || {
            let why = "the current config is not known, since the machine's host does not answer";
            Error::new(Kind::Unavailable, why).hint("try again later")
        };
        let config = patched(current.config.as_ref().ok_or_else(unknown)?, patch)?;
        let launch = LaunchMachine {
            config: Some(config),
            // The config that was read must still be the current one.
            current_version: named.clone().or(Some(current.version)),
            ..launch.clone()
        };
        match update_with(platform, app, machine, launch, labels(patch)).await {
            Err(err) if err.kind == Kind::VersionMismatch && named.is_none() => {}
            answer => return answer,
        }
    }
    Err(Error::contention("the machine"))
}

/// What the patch changes of the labels. They change without a new version, so that those of
/// the config that was read may be old. `None` if it replaces them all.
fn labels(patch: &Map<String, Value>) -> Option<ChangeMetadata> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match patch.get("metadata") {
        None => Some(ChangeMetadata::Merge(BTreeMap::new())),
        Some(Value::Object(named)) => {
            let named = named.iter().map(|(key, value)| (key.clone(), text(value)));
            Some(ChangeMetadata::Merge(named.collect()))
        }
        Some(_) => None,
    }
}

fn patched(config: &MachineConfig, patch: &Map<String, Value>) -> Result<MachineConfig, Error> {
    let json = serde_json::to_value(config);
    let mut json = json.map_err(|err| Error::internal(format!("write the config: {err}")))?;
    // A preset stands for the whole of `guest`, which the current config has.
    if patch.get("size").is_some_and(|size| !size.is_null())
        && !patch.contains_key("guest")
        && let Value::Object(fields) = &mut json
    {
        fields.remove("guest");
    }
    merge(&mut json, &Value::Object(patch.clone()));
    serde_path_to_error::deserialize(json).map_err(|err| {
        let path: String = err.path().to_string().chars().take(200).collect();
        let why: String = err.inner().to_string().chars().take(300).collect();
        Error::invalid(format!("config.{path}"), why)
    })
}

/// `MergePatch` of RFC 7396, section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn merges_by_the_table() {
        for (target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut result = target.clone();
            merge(&mut result, &patch);
            assert_eq!(result, merged, "{target} with {patch}");
        }
    }
}
