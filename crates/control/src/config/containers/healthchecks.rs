//! Validation of `healthchecks`: times are seconds.

use crate::config::guest::words;
use crate::config::validation::{ValidationErrors, quote};
use wire::machines::{ContainerHealthcheck, HttpHealthcheck};

const MAX_CHECKS: usize = 8;
const MAX_HEADERS: usize = 32;
const MAX_TEXT: usize = 1024;
/// Longest interval, timeout and grace period, in seconds.
const MAX_SECONDS: u64 = 3600;
const MAX_THRESHOLD: u32 = 1000;

pub(super) fn check(errors: &mut ValidationErrors, at: &str, checks: &[ContainerHealthcheck]) {
    if checks.len() > MAX_CHECKS {
        return errors.add(at, format!("must have at most {MAX_CHECKS} entries"));
    }
    for (i, check) in checks.iter().enumerate() {
        one(errors, &format!("{at}[{i}]"), check);
    }
}

fn one(errors: &mut ValidationErrors, at: &str, check: &ContainerHealthcheck) {
    let field = |name: &str| format!("{at}.{name}");
    let word = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    errors.one_of(&field("kind"), word(&check.kind).as_deref(), &["readiness", "liveness"]);
    errors.one_of(&field("unhealthy"), word(&check.unhealthy).as_deref(), &["stop"]);
    let name = check.name.as_deref().unwrap_or_default();
    if name.len() > 63 || name.contains(char::is_control) {
        errors.add(field("name"), "must have at most 63 bytes and no control characters");
    }
    for (name, seconds) in [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("grace_period", check.grace_period),
    ] {
        if seconds.is_some_and(|seconds| seconds > MAX_SECONDS) {
            errors.add(field(name), format!("must be at most {MAX_SECONDS} seconds"));
        }
    }
    for (name, threshold) in [
        ("success_threshold", check.success_threshold),
        ("failure_threshold", check.failure_threshold),
    ] {
        if threshold.is_some_and(|threshold| threshold > MAX_THRESHOLD) {
            errors.add(field(name), format!("must be at most {MAX_THRESHOLD}"));
        }
    }
    match (&check.http, &check.tcp, &check.exec) {
        (Some(http), None, None) => check_http(errors, &field("http"), http),
        (None, Some(tcp), None) => port(errors, &field("tcp.port"), tcp.port),
        (None, None, Some(exec)) => {
            if exec.command.first().is_none_or(String::is_empty) {
                errors.add(field("exec.command"), "is required");
            }
            words(errors, &field("exec.command"), Some(&exec.command));
        }
        _ => errors.add(at, "needs exactly one of http, tcp and exec"),
    }
}

fn port(errors: &mut ValidationErrors, field: &str, port: u16) {
    if port == 0 {
        errors.add(field, "must be from 1 to 65535");
    }
}

/// Each of these becomes part of the head of a request.
fn check_http(errors: &mut ValidationErrors, at: &str, http: &HttpHealthcheck) {
    port(errors, &format!("{at}.port"), http.port);
    let token = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        !text.is_empty() && text.len() <= MAX_TEXT && text.chars().all(plain)
    };
    let method = http.method.as_deref().unwrap_or_default();
    if !method.is_empty() && !token(method) {
        errors.add(format!("{at}.method"), format!("must be a method, not {}", quote(method)));
    }
    let path = http.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let graphic = path.chars().all(|c| c.is_ascii_graphic());
    if !path.starts_with('/') || path.len() > MAX_TEXT || !graphic {
        errors.add(format!("{at}.path"), "must begin with / and have no spaces");
    }
    let scheme = http.scheme.as_deref().filter(|scheme| !scheme.is_empty());
    errors.one_of(&format!("{at}.scheme"), scheme, &["http", "https"]);
    if scheme == Some("https") {
        let why = "HTTPS checks of containers are not supported yet";
        errors.unsupported(format!("{at}.scheme"), why);
    }
    let headers = http.headers.as_deref().unwrap_or_default();
    if headers.iter().map(|header| header.values.len()).sum::<usize>() > MAX_HEADERS {
        errors.add(format!("{at}.headers"), format!("must have at most {MAX_HEADERS} values"));
    }
    for (i, header) in headers.iter().enumerate() {
        let bad = |text: &String| text.len() > MAX_TEXT || text.chars().any(char::is_control);
        if !token(&header.name) || header.values.iter().any(bad) {
            errors.add(format!("{at}.headers[{i}]"), "must be a name and values of one line each");
        }
    }
}
