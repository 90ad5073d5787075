//! The daemon's report when it is ready, and the command line's config.

use super::running::Running;
use crate::settings::Settings;
use cli::config::{self, ConfigFile};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

/// What was found and where things are; its first line contains `is ready`.
pub(super) fn ready(settings: &Settings, running: &Running) -> String {
    let mut text = format!("Updraft {} is ready\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    if let Some(api) = &running.api {
        line("api", &format!("http://{}", api.address));
        if let Some(tunnel) = api.tunnel {
            line("tunnel", &tunnel.to_string());
        }
    }
    for edge in &running.edge {
        let domain = settings.edge.domains.first().map_or("localhost", String::as_str);
        line("edge", &format!("http://{edge} (apps at http://<app>.{domain}:{})", edge.port()));
    }
    line("host", &format!("{} (number {})", settings.host.name, settings.host.number.0));
    if let Some(host) = &running.host {
        let about = &host.about;
        if let Some(address) = host.host_api {
            line("host-api", &address.to_string());
        }
        line("accelerator", &format!("{} ({})", about.accelerator, short(&about.reason)));
        line("hypervisor", &about.hypervisor);
        line("kernel", &about.kernel);
        line("memory", &format!("{} MiB for machines", settings.memory.machines_mib));
        let machines: Vec<String> =
            host.machines.iter().map(|(state, count)| format!("{count} {state}")).collect();
        if !machines.is_empty() {
            line("machines", &machines.join(", "));
        }
    }
    for peer in &settings.peers {
        line("peer", &format!("{} (number {}) at {}", peer.name, peer.number.0, peer.address));
    }
    if let Some(path) = running.api.as_ref().and_then(|api| api.cli_config.as_ref()) {
        line("cli config", path);
    }
    for weakness in running.host.iter().flat_map(|host| &host.about.weaknesses) {
        line("note", weakness);
    }
    if running.api.is_some() {
        line("token", settings.admin.token_file.as_str());
    }
    // The last line of every report: a caller that waits for readiness reads up to it.
    line("data", settings.data_dir.as_str());
    text
}

/// The first part of a chain of causes; the whole of it is in the log.
fn short(reason: &str) -> &str {
    let line = reason.lines().next().unwrap_or_default();
    line.split(": ").next().unwrap_or(line)
}

/// Prints the report. A reader that has gone (`updraft up | head`) is no reason
/// to end: the platform runs, and a service manager is notified by other means.
pub(super) fn show(report: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    let shown = stdout.write_all(report.as_bytes()).and_then(|()| stdout.flush());
    if let Err(err) = shown {
        tracing::debug!(error = %err, "cannot print the report");
    }
}

/// Writes the command line's config if there is none, or if it is one of an
/// earlier start of this API. Returns its path if it fits this daemon.
pub(super) fn write_cli_config(
    settings: &Settings,
    vars: &BTreeMap<String, String>,
    api: SocketAddr,
    token: &str,
) -> Option<String> {
    if !settings.admin.write_cli_config {
        return None;
    }
    let path = config::path(vars)?;
    let shown = path.display().to_string();
    let wanted = ConfigFile { api: Some(format!("http://{api}")), token: Some(token.into()) };
    match config::read(&path) {
        Ok(Some(found)) if found == wanted => return Some(shown),
        Ok(Some(found)) if found.api != wanted.api => {
            tracing::info!(
                path = shown,
                "the command line's config is for another API; left alone"
            );
            return None;
        }
        Ok(_) => {}
        Err(err) => {
            tracing::warn!(error = rt::chain(&err), "cannot read the command line's config");
            return None;
        }
    }
    match config::write(&path, &wanted) {
        Ok(()) => Some(shown),
        Err(err) => {
            tracing::warn!(error = rt::chain(&err), "cannot write the command line's config");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_for_the_accelerator_is_short() {
        let long = "a guest does not start with kvm: connect to QEMU: kvm_intel: MSR 0x48 fails\nx";
        assert_eq!(short(long), "a guest does not start with kvm");
        assert_eq!(short("a guest booted with KVM"), "a guest booted with KVM");
        assert_eq!(short(""), "");
    }
}
