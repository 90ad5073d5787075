//! Kernel settings of the network namespace of the calling thread.

use std::fs;
use std::io;
use worker::ports::PortError;

const ROOT: &str = "/proc/sys/net";

/// Settings of every interface that differ from the kernel's defaults, or must not
/// follow a changed default: no address or route but those that are set by hand.
const INTERFACE: &[(&str, &str, &str)] = &[
    // For taps the pins in nftables are stricter; this holds without them.
    ("ipv4", "rp_filter", "1"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv4", "send_redirects", "0"),
    ("ipv4", "route_localnet", "0"),
    ("ipv6", "disable_ipv6", "0"),
    // No link-local address of the kernel's choice; `links` sets that of a tap.
    ("ipv6", "addr_gen_mode", "1"),
    ("ipv6", "accept_dad", "0"),
    ("ipv6", "dad_transmits", "0"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "accept_redirects", "0"),
];

/// Settings that taps have in addition.
const TAP: &[(&str, &str, &str)] = &[
    ("ipv4", "forwarding", "1"),
    // ARP only for the gateway's address.
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "proxy_arp", "0"),
    ("ipv4", "accept_source_route", "0"),
    ("ipv6", "proxy_ndp", "0"),
    ("ipv6", "forwarding", "1"),
];

/// Configures a new tap, before it is up.
pub(crate) fn configure_tap(tap: &str) -> Result<(), PortError> {
    configure(tap, INTERFACE.iter().chain(TAP))
}

/// Configures an end of the uplink, before it is up.
pub(crate) fn configure_uplink(interface: &str) -> Result<(), PortError> {
    configure(interface, INTERFACE)
}

fn configure<'a>(
    interface: &str,
    settings: impl IntoIterator<Item = &'a (&'a str, &'a str, &'a str)>,
) -> Result<(), PortError> {
    for (family, key, value) in settings {
        set(&format!("{family}/conf/{interface}/{key}"), value)?;
    }
    Ok(())
}

/// Turns on forwarding in the platform's own namespace.
pub(crate) fn enable_forwarding_inside() -> Result<(), PortError> {
    set("ipv4/ip_forward", "1")?;
    set("ipv6/conf/all/forwarding", "1")?;
    Ok(())
}

/// Turns on forwarding in the host's namespace.
pub(crate) fn enable_forwarding() -> Result<(), PortError> {
    // Only if it is off: a write resets other settings to those of a router.
    set_on_host("ipv4/ip_forward", "1")?;
    if get("ipv6/conf/all/forwarding")? == "1" {
        return Ok(());
    }
    // A router ignores router advertisements unless `accept_ra` is 2: a host
    // would lose a default route that it has from them.
    for interface in interfaces()? {
        let key = format!("ipv6/conf/{interface}/accept_ra");
        if get(&key).is_ok_and(|value| value == "1") {
            set_on_host(&key, "2")?;
        }
    }
    set_on_host("ipv6/conf/all/forwarding", "1")
}

/// Sets a value that affects the whole host, and logs it.
fn set_on_host(key: &str, value: &str) -> Result<(), PortError> {
    if set(key, value)? {
        tracing::info!(key, value, "kernel setting of the host changed");
    }
    Ok(())
}

/// A setting's value.
pub(crate) fn get(key: &str) -> Result<String, PortError> {
    let path = format!("{ROOT}/{key}");
    let text = fs::read_to_string(&path).map_err(|err| {
        let remedy = match (err.kind(), key.starts_with("ipv6")) {
            (io::ErrorKind::NotFound, true) => {
                " (is IPv6 off in this kernel? boot without ipv6.disable=1)"
            }
            _ => "",
        };
        PortError::new(format!("read {path}{remedy}"), err)
    })?;
    Ok(text.trim().to_owned())
}

/// Sets a value unless it is set: `/proc/sys` may be read-only and right.
/// Returns whether it changed.
fn set(key: &str, value: &str) -> Result<bool, PortError> {
    let before = get(key)?;
    if before == value {
        return Ok(false);
    }
    let path = format!("{ROOT}/{key}");
    fs::write(&path, value)
        .map_err(|err| PortError::new(format!("write {value} to {path} (run as root)"), err))?;
    Ok(true)
}

fn interfaces() -> Result<Vec<String>, PortError> {
    let path = format!("{ROOT}/ipv6/conf");
    let failed = |err| PortError::new(format!("list {path}"), err);
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    // `default` too: an uplink that appears later (hotplug) keeps its route.
    names.retain(|name| name != "all");
    Ok(names)
}

/// Entries that the connection table may have. The kernel has one limit for all
/// namespaces, each of which has a table of its own.
pub(crate) fn conntrack_max() -> Option<u32> {
    get("netfilter/nf_conntrack_max").ok()?.parse().ok()
}
