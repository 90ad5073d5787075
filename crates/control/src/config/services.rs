//! Validation of `config.services[]`.

use super::checks;
use super::validation::{ValidationErrors, quote};
use wire::machines::{Port, Service};

/// Longest `idle_timeout` that the edge acts on.
const MAX_IDLE_SECONDS: u64 = 24 * 3600;

pub(super) fn check(errors: &mut ValidationErrors, services: &[Service]) {
    for (i, service) in services.iter().enumerate() {
        let at = format!("config.services[{i}]");
        let protocol = format!("{at}.protocol");
        errors.one_of(&protocol, service.protocol.as_deref(), &["tcp", "udp"]);
        match service.internal_port {
            None => errors.add(format!("{at}.internal_port"), "is required"),
            Some(0) => errors.add(format!("{at}.internal_port"), "must be from 1 to 65535"),
            Some(_) => {}
        }
        for (j, port) in service.ports.iter().flatten().enumerate() {
            check_port(errors, &format!("{at}.ports[{j}]"), port);
        }
        if let Some(limits) = &service.concurrency {
            let kind = limits.kind.as_deref();
            errors.one_of(&format!("{at}.concurrency.type"), kind, &["connections", "requests"]);
            let field = format!("{at}.concurrency.hard_limit");
            match (limits.soft_limit, limits.hard_limit) {
                (Some(soft), Some(hard)) if soft > hard => {
                    errors.add(
                        field,
                        format!("must be at least the soft_limit of {soft}, not {hard}"),
                    );
                }
                _ => {}
            }
        }
        for (j, check) in service.checks.iter().flatten().enumerate() {
            checks::one(errors, &format!("{at}.checks[{j}]"), check);
        }
    }
}

fn check_port(errors: &mut ValidationErrors, at: &str, port: &Port) {
    match (port.port, port.start_port, port.end_port) {
        (Some(0), None, None) => errors.add(format!("{at}.port"), "must be from 1 to 65535"),
        (Some(_), None, None) => {}
        (None, Some(first), Some(last)) if 0 < first && first <= last => {}
        (None, Some(_), Some(_)) => {
            errors
                .add(format!("{at}.end_port"), "must not be below start_port, which is at least 1");
        }
        (None, None, None) => errors.add(format!("{at}.port"), "is required"),
        _ => errors.add(format!("{at}.port"), "give either port, or start_port and end_port"),
    }
    let handlers = port.handlers.as_deref().unwrap_or_default();
    for handler in handlers {
        let known = ["http", "tls", "pg_tls", "proxy_proto", "tcp", ""];
        if !known.contains(&handler.as_str()) {
            let why =
                format!("must be of http, tls, pg_tls and proxy_proto, not {}", quote(handler));
            errors.add(format!("{at}.handlers"), why);
        }
    }
    let idle = port.http_options.as_ref().and_then(|options| options.idle_timeout);
    if idle.is_some_and(|seconds| seconds > MAX_IDLE_SECONDS) {
        let rule = format!("must be seconds, from 0 to {MAX_IDLE_SECONDS} (a day)");
        errors.add(format!("{at}.http_options.idle_timeout"), rule);
    }
    if port.force_https == Some(true) && !handlers.iter().any(|handler| handler == "http") {
        errors.add(format!("{at}.force_https"), "needs the handler http");
    }
}
