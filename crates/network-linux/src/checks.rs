//! What a host must have for its machines' network, for `doctor`.

use crate::config::NetworkConfig;
use crate::{nft, ruleset, sysctl, tap};
use diagnostics::Check;
use std::fs;
use std::process::Stdio;
use tokio::process::Command;
use worker::ports::PortError;

/// Checks what [`crate::LinuxNetwork`] needs. Changes nothing.
pub async fn network(config: &NetworkConfig) -> Vec<Check> {
    let mut checks = vec![privileges(), tun_device(), forwarding()];
    match nft::chains("").await {
        Ok(chains) => {
            checks.push(Check::good("nftables", "nft works"));
            let mut droppers = nft_droppers(&chains);
            droppers.extend(legacy_dropper().await);
            checks.push(foreign_firewall(&droppers, config));
        }
        Err(err) => checks.push(Check::broken(
            "nftables",
            rt::chain(&err),
            "install the package nftables, load the module nf_tables, and run as root",
        )),
    }
    checks
}

fn privileges() -> Check {
    let name = "network admin";
    let admin = rustix::thread::CapabilitySet::NET_ADMIN;
    match rustix::thread::capabilities(None) {
        Ok(sets) if sets.effective.contains(admin) => Check::good(name, "CAP_NET_ADMIN"),
        Ok(_) => Check::broken(name, "no CAP_NET_ADMIN", "run as root"),
        Err(err) => Check::broken(name, format!("unknown: {err}"), "run as root"),
    }
}

fn tun_device() -> Check {
    match fs::File::options().read(true).write(true).open(tap::DEVICE) {
        Ok(_) => Check::good("taps", format!("{} opens", tap::DEVICE)),
        Err(err) => Check::broken(
            "taps",
            format!("open {}: {err}", tap::DEVICE),
            "load the module (`modprobe tun`); in a container, pass the device in; run as root",
        ),
    }
}

fn forwarding() -> Check {
    let name = "forwarding";
    let values = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(sysctl::get);
    let text = |value: &Result<String, PortError>| match value {
        Ok(value) => value.clone(),
        Err(err) => rt::chain(err),
    };
    let found = format!("IPv4 {}, IPv6 {}", text(&values[0]), text(&values[1]));
    match &values {
        [Ok(v4), Ok(v6)] if v4 == "1" && v6 == "1" => Check::good(name, found),
        [Ok(_), Ok(_)] => Check::weak(name, found, "nothing to do: `updraft up` turns it on"),
        _ => Check::broken(name, found, "use a kernel with IPv4 and IPv6"),
    }
}

/// Forward hooks of others that drop what nobody accepts.
fn nft_droppers(chains: &[serde_json::Value]) -> Vec<String> {
    let text = |chain: &serde_json::Value, key: &str| chain[key].as_str().unwrap_or("").to_owned();
    chains
        .iter()
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .map(|chain| ["family", "table", "name"].map(|key| text(chain, key)).join(" "))
        .collect()
}

/// The old iptables is not seen by `nft`. It is only asked if it is in use.
async fn legacy_dropper() -> Option<String> {
    let tables = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|table| table == "filter") {
        return None;
    }
    let output = Command::new("iptables-legacy")
        .args(["-S", "FORWARD"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let drops = String::from_utf8_lossy(&output.stdout).contains("-P FORWARD DROP");
    drops.then(|| "iptables-legacy FORWARD".to_owned())
}

fn foreign_firewall(droppers: &[String], config: &NetworkConfig) -> Check {
    let name = "other firewalls";
    if droppers.is_empty() {
        return Check::good(name, "none drops what is forwarded by policy");
    }
    let taps = format!("ud{}", config.tag);
    Check::weak(
        name,
        format!("dropping by policy what is forwarded: {}", droppers.join(", ")),
        format!(
            "unless it has such rules, let our taps through: \
             `iptables -I DOCKER-USER -i {taps}+ -j ACCEPT` and the same with `-o` (Docker), or \
             `nft insert rule <chain> iifname \"{taps}*\" accept` and the same with `oifname`; \
             table {} still confines the guests",
            ruleset::table(config.tag)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_forward_hooks_that_drop_are_named() {
        let chains = [
            json!({"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}),
            json!({"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}),
            json!({"family": "inet", "table": "t", "name": "f", "hook": "forward", "policy": "accept"}),
            json!({"family": "inet", "table": "t", "name": "plain"}),
        ];
        assert_eq!(nft_droppers(&chains), ["ip filter FORWARD"]);
    }
}
