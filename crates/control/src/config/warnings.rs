//! What is accepted, but not acted on or probably not meant. Nothing that a client
//! asks for is dropped silently.

use super::checks;
use super::platform_env::PLATFORM_ENV;
use super::validation::is_set;
use std::collections::BTreeMap;
use wire::machines::{Autostop, Extra, LaunchMachine, MachineConfig, Port, Service};

/// Warnings about a config without its containers.
pub(super) fn of_machine(config: &MachineConfig) -> Vec<String> {
    let mut out = Vec::new();
    platform_variables(&mut out, "config.env", config.env.as_ref());
    if let Some(metrics) = &config.metrics {
        unknown(&mut out, "config.metrics", &metrics.extra, &[]);
    }
    if let Some(options) = &config.schedule_options {
        let at = "config.schedule_options";
        if config.schedule.is_none() {
            out.push(format!("{at}: is of no effect without a schedule"));
        }
        unknown(&mut out, at, &options.extra, &[]);
    }
    let is_standby = config.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty());
    if is_standby && config.schedule.is_some() {
        out.push("config.schedule: a standby is not run by its schedule".into());
    }
    if config.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty()) {
        out.push("config.standbys: a standby is not started yet when its machine fails".into());
    }
    for (name, check) in config.checks.iter().flatten() {
        let name: String = name.chars().take(80).collect();
        unknown(&mut out, &format!("config.checks.{name}"), &check.extra, &[]);
    }
    for (i, service) in config.services.iter().flatten().enumerate() {
        service_warnings(&mut out, &format!("config.services[{i}]"), service);
    }
    // It has a warning of its own.
    unknown(&mut out, "config", &config.extra, &["statics"]);
    if config.extra.get("statics").is_some_and(is_set) {
        out.push(
            "config.statics: kept, but the edge serves no files yet; these requests go to the \
             machine"
                .into(),
        );
    }
    nested(&mut out, config);
    for (i, process) in config.processes.iter().flatten().enumerate() {
        unknown(&mut out, &format!("config.processes[{i}]"), &process.extra, &[]);
    }
    if let Some(init) = &config.init {
        unknown(&mut out, "config.init", &init.extra, &[]);
    }
    if let Some(guest) = &config.guest {
        unknown(&mut out, "config.guest", &guest.extra, &[]);
    }
    out
}

/// Fields that this version does not know, in objects that have nothing else to warn of.
fn nested(out: &mut Vec<String>, config: &MachineConfig) {
    if let Some(dns) = &config.dns {
        unknown(out, "config.dns", &dns.extra, &[]);
    }
    if let Some(rootfs) = &config.rootfs {
        unknown(out, "config.rootfs", &rootfs.extra, &[]);
    }
    for (i, file) in config.files.iter().flatten().enumerate() {
        unknown(out, &format!("config.files[{i}]"), &file.extra, &[]);
    }
}

fn service_warnings(out: &mut Vec<String>, at: &str, service: &Service) {
    let stops = service.autostop.is_some_and(|stop| stop != Autostop::Off);
    if stops && service.autostart == Some(false) {
        out.push(format!(
            "{at}: autostop stops the machine when it is idle, and with autostart false nothing \
             starts it again"
        ));
    }
    if service.protocol.as_deref() == Some("udp") {
        out.push(format!("{at}.protocol: UDP is not served yet"));
    } else {
        for (j, port) in service.ports.iter().flatten().enumerate() {
            port_warnings(out, &format!("{at}.ports[{j}]"), port);
        }
    }
    for (j, check) in service.checks.iter().flatten().enumerate() {
        let at = format!("{at}.checks[{j}]");
        checks::service_warnings(out, &at, check);
        unknown(out, &at, &check.extra, &[]);
    }
    unknown(out, at, &service.extra, &[]);
}

fn port_warnings(out: &mut Vec<String>, at: &str, port: &Port) {
    let handlers = port.handlers.as_deref().unwrap_or_default();
    let has = |name: &str| handlers.iter().any(|handler| handler == name);
    if !has("http") {
        out.push(format!("{at}.handlers: only the handler http is served yet, not raw TCP"));
    } else if has("tls") {
        out.push(format!("{at}.handlers: TLS is not served yet; the port serves plain HTTP"));
    }
    if port.force_https == Some(true) {
        out.push(format!("{at}.force_https: requests are not redirected to HTTPS yet"));
    }
    unknown(out, at, &port.extra, &["http_options"]);
    let options = port.extra.get("http_options").and_then(|options| options.as_object());
    for (field, value) in options.into_iter().flatten() {
        // Both are acted on by the edge.
        let known = match field.as_str() {
            "idle_timeout" => true,
            "response" => value.as_object().is_some_and(|response| {
                response.iter().all(|(key, value)| key == "pristine" || !is_set(value))
            }),
            _ => false,
        };
        if !known && is_set(value) {
            let field: String = field.chars().take(40).collect();
            out.push(format!("{at}.http_options.{field}: is kept but not acted on yet"));
        }
    }
}

/// Warnings about fields of the request beside its config.
pub fn launch_warnings(launch: &LaunchMachine) -> Vec<String> {
    let mut out = Vec::new();
    unknown(&mut out, "request", &launch.extra, &[]);
    out.iter_mut().for_each(|text| *text = text.trim_start_matches("request.").to_owned());
    out
}

/// Variables that the platform sets itself.
pub(super) fn platform_variables(
    out: &mut Vec<String>,
    at: &str,
    env: Option<&BTreeMap<String, String>>,
) {
    for name in env.into_iter().flatten().map(|(name, _)| name) {
        // Clients write the process group into the environment as well as into
        // the metadata, with one value.
        if PLATFORM_ENV.contains(&name.as_str()) && name != "FLY_PROCESS_GROUP" {
            out.push(format!("{at}.{name}: the platform sets it; the value is not used"));
        }
    }
}

pub(super) fn unknown(out: &mut Vec<String>, at: &str, extra: &Extra, known: &[&str]) {
    for (field, value) in extra {
        if is_set(value) && !known.contains(&field.as_str()) {
            let field: String = field.chars().take(40).collect();
            out.push(format!("{at}.{field}: is kept but not acted on yet"));
        }
    }
}
