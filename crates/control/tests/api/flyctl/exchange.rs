//! Requests of the client and the answers to them, as they are written to a file: one JSON
//! document in a line.

use super::script::folder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

/// One request and its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Exchange {
    /// The command that sent it.
    pub(super) of: String,
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    /// The token, if it is not that of the administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) body: Value,
    pub(super) status: u16,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) answer: Value,
}

fn file(group: &str) -> PathBuf {
    folder().join("recorded").join(format!("{group}.jsonl"))
}

/// What was recorded of a group.
pub(super) fn load(group: &str) -> Vec<Exchange> {
    let path = file(group);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path:?}: {err}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn save(group: &str, exchanges: &[Exchange]) {
    let mut text = String::new();
    for exchange in exchanges {
        writeln!(text, "{}", serde_json::to_string(exchange).unwrap()).unwrap();
    }
    std::fs::create_dir_all(file(group).parent().unwrap()).unwrap();
    std::fs::write(file(group), text).unwrap();
}
