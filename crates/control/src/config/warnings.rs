//! What is accepted, but not acted on or probably not meant. Nothing that a client
//! asks for is dropped silently. Fields that no type has are found by
//! [`crate::unknown_fields`].

use super::checks;
use super::platform_env::PLATFORM_ENV;
use super::validation::is_set;
use std::collections::BTreeMap;
use wire::machines::{Autostop, MachineConfig, Port, Service};

/// Warnings about a config without its containers.
pub(super) fn of_machine(config: &MachineConfig) -> Vec<String> {
    let mut out = Vec::new();
    platform_variables(&mut out, "config.env", config.env.as_ref());
    if config.schedule_options.is_some() && config.schedule.is_none() {
        out.push("config.schedule_options: is of no effect without a schedule".into());
    }
    if config.dns.as_ref().is_some_and(|dns| dns.skip_registration == Some(true)) {
        out.push(
            "config.dns.skip_registration: machines have no `.internal` names yet, with or \
             without it"
                .into(),
        );
    }
    let is_standby = config.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty());
    if is_standby && config.schedule.is_some() {
        out.push("config.schedule: a standby is not run by its schedule".into());
    }
    if config.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty()) {
        out.push("config.standbys: a standby is not started yet when its machine fails".into());
    }
    for (i, service) in config.services.iter().flatten().enumerate() {
        service_warnings(&mut out, &format!("config.services[{i}]"), service);
    }
    if config.statics.as_ref().is_some_and(is_set) {
        out.push(
            "config.statics: kept, but the edge serves no files yet; these requests go to the \
             machine"
                .into(),
        );
    }
    out
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
    }
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
