//! What `config.services[]` may say (C025–C034).

use super::{Complaints, checks};
use wire::machines::{Port, Service};

pub(super) fn check(found: &mut Complaints, services: &[Service]) {
    for (i, service) in services.iter().enumerate() {
        let at = format!("config.services[{i}]");
        let protocol = format!("{at}.protocol");
        match service.protocol.as_deref() {
            None | Some("") => found.add(protocol, "is required: tcp or udp"),
            word => found.one_of(&protocol, word, &["tcp", "udp"]),
        }
        match service.internal_port {
            None => found.add(format!("{at}.internal_port"), "is required"),
            Some(0) => found.add(format!("{at}.internal_port"), "must be from 1 to 65535"),
            Some(_) => {}
        }
        for (j, port) in service.ports.iter().flatten().enumerate() {
            check_port(found, &format!("{at}.ports[{j}]"), port);
        }
        if let Some(limits) = &service.concurrency {
            let kind = limits.kind.as_deref().filter(|kind| !kind.is_empty());
            found.one_of(&format!("{at}.concurrency.type"), kind, &["connections", "requests"]);
            let field = format!("{at}.concurrency.hard_limit");
            match (limits.soft_limit, limits.hard_limit) {
                (_, Some(0)) => found.add(field, "must be at least 1"),
                (Some(soft), Some(hard)) if soft > hard => {
                    found.add(
                        field,
                        format!("must be at least the soft_limit of {soft}, not {hard}"),
                    );
                }
                _ => {}
            }
        }
        for (j, check) in service.checks.iter().flatten().enumerate() {
            checks::one(found, &format!("{at}.checks[{j}]"), check);
        }
    }
}

fn check_port(found: &mut Complaints, at: &str, port: &Port) {
    match (port.port, port.start_port, port.end_port) {
        (Some(0), None, None) => found.add(format!("{at}.port"), "must be from 1 to 65535"),
        (Some(_), None, None) => {}
        (None, Some(first), Some(last)) if 0 < first && first <= last => {}
        (None, Some(_), Some(_)) => {
            found
                .add(format!("{at}.end_port"), "must not be below start_port, which is at least 1");
        }
        (None, None, None) => found.add(format!("{at}.port"), "is required"),
        _ => found.add(format!("{at}.port"), "give either port, or start_port and end_port"),
    }
    let handlers = port.handlers.as_deref().unwrap_or_default();
    for handler in handlers {
        let known = ["http", "tls", "pg_tls", "proxy_proto", "tcp", ""];
        if !known.contains(&handler.as_str()) {
            let why = format!(
                "must be of http, tls, pg_tls and proxy_proto, not {}",
                super::config::quote(handler)
            );
            found.add(format!("{at}.handlers"), why);
        }
    }
    if port.force_https == Some(true) && !handlers.iter().any(|handler| handler == "http") {
        found.add(format!("{at}.force_https"), "needs the handler http");
    }
}
