//! Kernel settings of the network namespace of the calling thread.

use std::fs;
use std::io;
use worker::ports::PortError;

const ROOT: &str = "/proc/sys/net";

/// What a tap has that differs from the kernel's defaults, or must not follow
/// a default that somebody changed.
const TAP: &[(&str, &str, &str)] = &[
    ("ipv4", "forwarding", "1"),
    // The pins in nftables say the same more strictly; this holds without them.
    ("ipv4", "rp_filter", "1"),
    // ARP only for the gateway's address: a guest learns no other one.
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "proxy_arp", "0"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv4", "send_redirects", "0"),
    ("ipv4", "accept_source_route", "0"),
    ("ipv4", "route_localnet", "0"),
    ("ipv6", "disable_ipv6", "0"),
    // No address of the kernel's choice; `links` gives a link-local one.
    ("ipv6", "addr_gen_mode", "1"),
    ("ipv6", "accept_dad", "0"),
    ("ipv6", "dad_transmits", "0"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "proxy_ndp", "0"),
    ("ipv6", "forwarding", "1"),
];

/// Readies a new tap, before it is up.
pub(crate) fn prepare_tap(tap: &str) -> Result<(), PortError> {
    for (family, key, value) in TAP {
        set(&format!("{family}/conf/{tap}/{key}"), value)?;
    }
    Ok(())
}

/// Turns on forwarding.
pub(crate) fn enable_forwarding() -> Result<(), PortError> {
    // Only when off: writing it resets other settings to those of a router.
    share("ipv4/ip_forward", "1")?;
    if get("ipv6/conf/all/forwarding")? == "1" {
        return Ok(());
    }
    // A router ignores router advertisements unless it is told 2: a host that
    // has its default route from them would lose it.
    for interface in interfaces()? {
        let key = format!("ipv6/conf/{interface}/accept_ra");
        if get(&key).is_ok_and(|value| value == "1") {
            share(&key, "2")?;
        }
    }
    share("ipv6/conf/all/forwarding", "1")
}

/// Sets a value that the whole host feels, and says so.
fn share(key: &str, value: &str) -> Result<(), PortError> {
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

/// Sets a value unless it is set: `/proc/sys` may be read-only and right. Says
/// whether it changed.
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
