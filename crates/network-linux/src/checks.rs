//! The requirements of machines' network on a host, for `doctor`.

use crate::config::NetworkConfig;
use crate::interface::{Links, sysctl, tap};
use crate::namespace::{Namespace, link_name, pool_conflict};
use crate::nftables::{BaseChain, Netfilter, uplink};
use diagnostics::Check;
use std::fs;
use std::process::Stdio;
use tokio::process::Command;
use worker::ports::PortError;

/// Checks what [`crate::LinuxNetwork`] needs, in the network namespace of the
/// calling thread. Changes nothing.
pub async fn network(config: &NetworkConfig) -> Vec<Check> {
    let mut checks = vec![privileges(), tun_device(), forwarding()];
    match Netfilter::open().and_then(|netfilter| {
        let chains = netfilter.base_chains();
        let chains = chains.map_err(|err| PortError::new("list the chains of nftables", err))?;
        Ok((netfilter, chains))
    }) {
        Ok((netfilter, chains)) => {
            checks.push(Check::good("nftables", "the kernel has it"));
            let mut droppers = nft_droppers(&chains);
            droppers.extend(legacy_dropper().await);
            checks.push(foreign_firewall(&droppers, config));
            checks.extend(uplink_rules(&netfilter, config));
        }
        Err(err) => checks.push(Check::broken(
            "nftables",
            rt::chain(&err),
            "load the kernel module nf_tables, and run as root",
        )),
    }
    checks.push(address_pool(config));
    checks
}

/// The rules of the link of a platform that runs, if one does.
fn uplink_rules(netfilter: &Netfilter, config: &NetworkConfig) -> Option<Check> {
    let (name, table) = ("uplink rules", uplink::table(config.tag));
    if !matches!(Namespace::open(&config.namespace), Ok(Some(_))) {
        return None;
    }
    Some(match netfilter.rules(&table) {
        Ok(0) => Check::weak(
            name,
            format!("table {table} is missing: machines cannot reach the outside"),
            "a running daemon restores it within seconds and logs it; else run `updraft up`",
        ),
        Ok(rules) => Check::good(name, format!("table {table} has {rules} rules")),
        Err(err) => Check::broken(name, format!("list {table}: {err}"), "run as root"),
    })
}

/// Whether another network of the host has addresses of the machines' pool.
fn address_pool(config: &NetworkConfig) -> Check {
    let name = "address pool";
    let found = Links::open().and_then(|links| {
        let own = links.find(&link_name(config.tag))?.map_or(0, |link| link.index);
        Ok(pool_conflict(config, &links.routes()?, own))
    });
    let (pool, length) = config.pool.cidr();
    match found {
        Ok(None) => Check::good(name, format!("{pool}/{length} overlaps no route of the host")),
        Ok(Some(route)) if config.masquerade => Check::weak(
            name,
            format!("{pool}/{length} overlaps {}, which machines cannot reach", route.to),
            "nothing to do if machines need not reach it; else choose another --ipv4-pool",
        ),
        Ok(Some(route)) => Check::broken(
            name,
            format!("{pool}/{length} overlaps {} of this host", route.to),
            "choose another --ipv4-pool",
        ),
        Err(err) => Check::broken(name, rt::chain(&err), "run as root"),
    }
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

/// Chains that drop forwarded packets by policy.
fn nft_droppers(chains: &[BaseChain]) -> Vec<String> {
    let droppers = chains.iter().filter(|chain| chain.drops_forwarded);
    droppers.map(|chain| chain.name.clone()).collect()
}

/// nftables does not show rules of the old iptables; its program is only run if
/// it is in use.
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
        return Check::good(name, "none drops forwarded packets by policy");
    }
    let link = link_name(config.tag);
    Check::weak(
        name,
        format!("these drop forwarded packets by policy: {}", droppers.join(", ")),
        format!(
            "unless they have such rules, let the machines' link through: \
             `iptables -I DOCKER-USER -i {link} -j ACCEPT` and the same with `-o` (Docker), or \
             `nft insert rule <chain> iifname \"{link}\" accept` and the same with `oifname`; \
             guests stay confined by the rules in the platform's namespace"
        ),
    )
}
