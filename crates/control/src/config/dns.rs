//! Validation of `config.dns`: name resolution inside the guest.

use super::validation::{ValidationErrors, quote};
use wire::machines::MachineConfig;

/// Longest name of a host or domain.
const MAX_NAME: usize = 253;

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    let Some(dns) = &config.dns else { return };
    for (i, server) in dns.nameservers.iter().flatten().enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            let rule = format!("must be an IP address, not {}", quote(server));
            errors.add(format!("config.dns.nameservers[{i}]"), rule);
        }
    }
    // Each of these becomes part of a line in a file of the guest.
    let breaks = |text: &str| text.chars().any(|c| c.is_whitespace() || c.is_control());
    for (field, text) in [("hostname", &dns.hostname), ("hostname_fqdn", &dns.hostname_fqdn)] {
        if text.as_deref().is_some_and(|text| text.len() > MAX_NAME || breaks(text)) {
            errors.add(format!("config.dns.{field}"), "must be a host name");
        }
    }
    for (i, domain) in dns.searches.iter().flatten().enumerate() {
        if domain.len() > MAX_NAME || breaks(domain) {
            errors.add(format!("config.dns.searches[{i}]"), "must be a domain");
        }
    }
    for (i, option) in dns.options.iter().flatten().enumerate() {
        let bad_value = option.value.as_deref().is_some_and(breaks);
        if option.name.is_empty() || breaks(&option.name) || bad_value {
            let rule = "must be a name and a value of one word each";
            errors.add(format!("config.dns.options[{i}]"), rule);
        }
    }
}
