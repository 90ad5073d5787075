//! Validation of checks. They are kept, not yet run.
//! See <https://fly.io/docs/reference/health-checks/>.

use super::validation::ValidationErrors;
use std::collections::BTreeMap;
use wire::machines::{Check, Service};

pub(super) fn named(
    errors: &mut ValidationErrors,
    checks: Option<&BTreeMap<String, Check>>,
    services: &[Service],
) {
    for (name, check) in checks.into_iter().flatten() {
        let name: String = name.chars().take(80).collect();
        let at = format!("config.checks.{name}");
        let is_script = check.kind.as_deref() == Some("script");
        if check.port.is_none() && !is_script && services.is_empty() {
            let rule = "is required, from 1 to 65535, where there is no service to take it from";
            errors.add(format!("{at}.port"), rule);
        }
        one(errors, &at, check);
    }
}

pub(super) fn one(errors: &mut ValidationErrors, at: &str, check: &Check) {
    match check.kind.as_deref() {
        None | Some("") => errors.add(format!("{at}.type"), "is required: tcp, http or script"),
        word => errors.one_of(&format!("{at}.type"), word, &["tcp", "http", "script"]),
    }
    errors.duration(&format!("{at}.interval"), check.interval.as_ref());
    errors.duration(&format!("{at}.timeout"), check.timeout.as_ref());
    errors.duration(&format!("{at}.grace_period"), check.grace_period.as_ref());
    let purpose = check.purpose.as_deref();
    errors.one_of(&format!("{at}.kind"), purpose, &["informational", "readiness"]);
    errors.one_of(&format!("{at}.protocol"), check.protocol.as_deref(), &["http", "https"]);
    if check.path.as_deref().is_some_and(|path| !path.starts_with('/')) {
        errors.add(format!("{at}.path"), "must begin with /");
    }
}
