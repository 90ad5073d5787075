//! What checks may say (C034, C035). They are kept, not yet run.

use super::Complaints;
use serde_json::Value;
use std::collections::BTreeMap;
use wire::machines::Check;

pub(super) fn named(found: &mut Complaints, checks: Option<&BTreeMap<String, Check>>) {
    for (name, check) in checks.into_iter().flatten() {
        let name: String = name.chars().take(80).collect();
        let at = format!("config.checks.{name}");
        if check.port.is_none_or(|port| port == 0) {
            found.add(format!("{at}.port"), "is required, from 1 to 65535");
        }
        one(found, &at, check);
    }
}

pub(super) fn one(found: &mut Complaints, at: &str, check: &Check) {
    match check.kind.as_deref() {
        None | Some("") => found.add(format!("{at}.type"), "is required: tcp or http"),
        word => found.one_of(&format!("{at}.type"), word, &["tcp", "http"]),
    }
    found.span(&format!("{at}.interval"), check.interval.as_ref());
    found.span(&format!("{at}.timeout"), check.timeout.as_ref());
    found.span(&format!("{at}.grace_period"), check.grace_period.as_ref());
    let text =
        |field: &str| check.extra.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
    found.one_of(&format!("{at}.kind"), text("kind"), &["informational", "readiness"]);
    found.one_of(&format!("{at}.protocol"), text("protocol"), &["http", "https"]);
    if text("path").is_some_and(|path| !path.starts_with('/')) {
        found.add(format!("{at}.path"), "must begin with /");
    }
}
