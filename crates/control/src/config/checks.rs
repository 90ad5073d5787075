//! Validation of health checks. See <https://fly.io/docs/reference/health-checks/>.
//!
//! Durations of a service's check that are out of bounds are moved into them, with a
//! warning; those of a named check are refused, as flyctl does for both.

use super::validation::{ValidationErrors, quote};
use model::check::{
    LONGEST_SPAN, LONGEST_TIMEOUT, MAX_THRESHOLD, Purpose, SERVICE_BOUNDS, SHORTEST_INTERVAL,
};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::machines::{Check, CheckHeader, MachineConfig, Service, Span};

/// Checks of a machine in all.
const MAX_CHECKS: usize = 32;
const MAX_NAME: usize = 128;
const MAX_PATH: usize = 2048;
/// Words and bytes of a command.
const MAX_WORDS: usize = 64;
const MAX_COMMAND: usize = 8 << 10;
/// Header fields of a request, and bytes of their values.
const MAX_HEADERS: usize = 32;
const MAX_HEADER_BYTES: usize = 8 << 10;
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    let services = config.services.as_deref().unwrap_or_default();
    named(errors, config.checks.as_ref(), services);
    let of_services: usize =
        services.iter().map(|service| service.checks.as_ref().map_or(0, Vec::len)).sum();
    let all = of_services + config.checks.as_ref().map_or(0, BTreeMap::len);
    if all > MAX_CHECKS {
        let rule = format!("a machine has at most {MAX_CHECKS} checks in all, not {all}");
        errors.add("config.checks", rule);
    }
}

fn named(
    errors: &mut ValidationErrors,
    checks: Option<&BTreeMap<String, Check>>,
    services: &[Service],
) {
    for (name, check) in checks.into_iter().flatten().take(MAX_CHECKS + 1) {
        let short: String = name.chars().take(80).collect();
        let at = format!("config.checks.{short}");
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let rule = format!("a name has 1 to {MAX_NAME} bytes and no control characters");
            errors.add(at.clone(), rule);
        }
        let is_script = check.kind.as_deref() == Some("script");
        if check.port.is_none() && !is_script && services.is_empty() {
            let rule = "is required, from 1 to 65535, where there is no service to take it from";
            errors.add(format!("{at}.port"), rule);
        }
        one(errors, &at, check);
        let interval = check.interval.as_ref().and_then(Span::get);
        if interval.is_some_and(|span| !(SHORTEST_INTERVAL..=LONGEST_SPAN).contains(&span)) {
            errors.add(
                format!("{at}.interval"),
                "must be from 2s to 1h; a number counts nanoseconds",
            );
        }
        let timeout = check.timeout.as_ref().and_then(Span::get);
        if timeout.is_some_and(|span| span.is_zero() || span > LONGEST_TIMEOUT) {
            errors.add(format!("{at}.timeout"), "must be above 0 and at most 60s");
        }
        let grace = check.grace_period.as_ref().and_then(Span::get);
        if grace.is_some_and(|span| span > LONGEST_SPAN) {
            errors.add(format!("{at}.grace_period"), "must be at most 1h");
        }
    }
}

/// The rules of every check.
pub(super) fn one(errors: &mut ValidationErrors, at: &str, check: &Check) {
    match check.kind.as_deref() {
        None | Some("") => errors.add(format!("{at}.type"), "is required: tcp, http or script"),
        word => errors.one_of(&format!("{at}.type"), word, &["tcp", "http", "script"]),
    }
    errors.duration(&format!("{at}.interval"), check.interval.as_ref());
    errors.duration(&format!("{at}.timeout"), check.timeout.as_ref());
    errors.duration(&format!("{at}.grace_period"), check.grace_period.as_ref());
    let purposes = Purpose::ALL.map(Purpose::as_str);
    errors.one_of(&format!("{at}.kind"), check.purpose.as_deref(), &purposes);
    errors.one_of(&format!("{at}.protocol"), check.protocol.as_deref(), &["http", "https"]);
    let method = check.method.as_deref().map(str::to_ascii_uppercase);
    errors.one_of(&format!("{at}.method"), method.as_deref(), &METHODS);
    if let Some(path) = check.path.as_deref() {
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        if !path.starts_with('/') {
            errors.add(format!("{at}.path"), "must begin with /");
        } else if path.len() > MAX_PATH || !plain {
            let rule = format!("must have at most {MAX_PATH} bytes, and be percent-encoded");
            errors.add(format!("{at}.path"), rule);
        }
    }
    command(errors, at, check);
    headers(errors, at, check.headers.as_deref().unwrap_or_default());
    for (field, threshold) in [
        ("success_threshold", check.success_threshold),
        ("failure_threshold", check.failure_threshold),
    ] {
        if threshold.is_some_and(|count| count == 0 || count > MAX_THRESHOLD) {
            errors.add(format!("{at}.{field}"), format!("must be from 1 to {MAX_THRESHOLD}"));
        }
    }
}

fn command(errors: &mut ValidationErrors, at: &str, check: &Check) {
    let field = format!("{at}.command");
    let is_script = check.kind.as_deref() == Some("script");
    match check.command.as_deref() {
        None | Some([]) if is_script => {
            errors.add(field, "is required: the program of a script check and its arguments");
        }
        None | Some([]) => {}
        Some(_) if !is_script => errors.add(field, "is only of checks of the type script"),
        Some(words) => {
            let bytes: usize = words.iter().map(String::len).sum();
            if words.len() > MAX_WORDS || bytes > MAX_COMMAND {
                let rule = format!("has at most {MAX_WORDS} words of {MAX_COMMAND} bytes in all");
                errors.add(field, rule);
            } else if words[0].is_empty() || words.iter().any(|word| word.contains('\0')) {
                errors.add(field, "must begin with a program, and have no NUL byte");
            }
        }
    }
}

fn headers(errors: &mut ValidationErrors, at: &str, headers: &[CheckHeader]) {
    let fields = headers.iter().map(|header| header.values.len().max(1)).sum::<usize>();
    let bytes = headers.iter().flat_map(|header| &header.values).map(String::len).sum::<usize>();
    if fields > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let rule = format!("has at most {MAX_HEADERS} fields of {MAX_HEADER_BYTES} bytes in all");
        return errors.add(format!("{at}.headers"), rule);
    }
    for (i, header) in headers.iter().enumerate() {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if header.name.is_empty() || !header.name.bytes().all(token) {
            let rule = format!("must be the name of a header field, not {}", quote(&header.name));
            errors.add(format!("{at}.headers[{i}].name"), rule);
        }
        let printable = |c: char| c == '\t' || (c.is_ascii() && !c.is_ascii_control());
        if !header.values.iter().all(|value| value.chars().all(printable)) {
            let rule = "must be ASCII text without control characters";
            errors.add(format!("{at}.headers[{i}].values"), rule);
        }
    }
}

/// Warnings about the durations of a service's check that are moved into their bounds.
pub(super) fn service_warnings(out: &mut Vec<String>, at: &str, check: &Check) {
    let (shortest, longest) = SERVICE_BOUNDS;
    for (field, span, zero) in [
        ("interval", &check.interval, false),
        ("timeout", &check.timeout, false),
        ("grace_period", &check.grace_period, true),
    ] {
        let Some(span) = span.as_ref().and_then(Span::get) else { continue };
        if zero && span == Duration::ZERO {
            continue;
        }
        if span < shortest {
            out.push(format!("{at}.{field}: is below 1s and is raised to 1s"));
        } else if span > longest {
            out.push(format!("{at}.{field}: is above 60s and is lowered to 60s"));
        }
    }
}
