//! The guest's config: what it is and runs, from the machine's record and image.

use super::containers;
use super::images::MachineImages;
use super::process::{HostFacts, Scope, env, files, main, oidc_audience};
use crate::record::Record;
use crate::secrets::MachineSecrets;
use crate::units;
use crate::volumes::attached::{AttachedVolume, mounts};
use guest_protocol::{API_ADDRESS, Device, GuestConfig, Main, Net, Unit};
use model::address::{Addresses, IPV6_BLOCK, Ipv4Pool};
use wire::machines::Dns;

/// Bytes of log that the guest keeps while no daemon reads them.
const LOG_BUFFER: u32 = 256 << 10;

/// The guest's config, or why it cannot be made.
pub(super) fn guest_config(
    record: &Record,
    images: &MachineImages,
    facts: HostFacts<'_>,
    secrets: &MachineSecrets,
    volumes: &[AttachedVolume],
) -> Result<GuestConfig, String> {
    let config = &record.config;
    let dns = config.dns.clone().unwrap_or_default();
    let id = record.id.to_string();
    let hostname = dns.hostname.clone().filter(|name| !name.is_empty()).unwrap_or(id);
    let scope = Scope {
        record,
        facts: &facts,
        image: &images.root.config,
        reference: record.image_reference(),
        init: config.init.clone().unwrap_or_default(),
        secrets,
    };
    let processes = units::processes(config).iter().map(|process| {
        let (name, main) = (process.name.clone().unwrap_or_default(), main(&scope, Some(process))?);
        Ok(Unit { name, main, container: None })
    });
    let mut units: Vec<Unit> = processes.collect::<Result<_, String>>()?;
    units.extend(containers::units(&scope, images)?);
    let main = match units::containers(config) {
        [] => main(&scope, config.processes.as_deref().and_then(<[_]>::first))?,
        // Commands run beside it, outside of any container.
        _ => Main { env: env(&scope, None)?, workdir: "/".into(), ..Main::default() },
    };
    let environments = units.iter().map(|unit| &unit.main).chain([&main]);
    let oidc_audience = environments.map(|main| &main.env).find_map(|env| oidc_audience(env));
    let devices = images.devices();
    let directories = containers::volumes(config);
    let mounts = mounts(volumes, devices.len());
    Ok(GuestConfig {
        machine_id: machine_id(record),
        now: facts.now_ns,
        root: Device { path: "/dev/vda".into(), fstype: images.root.fstype.clone() },
        scratch: Device { path: "/dev/vdb".into(), fstype: "ext4".into() },
        net: facts.addresses.map(|addresses| net(&addresses, facts.mtu)),
        resolv_conf: resolv_conf(&dns, &facts.nameservers),
        hosts: hosts(&hostname, &dns, facts.addresses.as_ref()),
        files: files(config.files.iter().flatten(), secrets, images)?,
        main,
        swap_mib: config.init.as_ref().and_then(|init| init.swap_size_mb).unwrap_or(0),
        log_buffer: LOG_BUFFER,
        entropy: facts.entropy,
        oidc_audience,
        hostname,
        images: (!devices.is_empty()).then_some(devices),
        units: (!units.is_empty()).then_some(units),
        volumes: (!directories.is_empty()).then_some(directories),
        mounts: (!mounts.is_empty()).then_some(mounts),
    })
}

/// Constant over the machine's life and unique; derived from the machine's id as
/// systemd derives it from a VM's UUID (machine-id(5)), so it is no secret.
fn machine_id(record: &Record) -> String {
    let id = record.id.to_string();
    format!("{id}{id}{id}")[..32].to_owned()
}

fn net(addresses: &Addresses, mtu: u16) -> Net {
    Net {
        mac: addresses.mac,
        ipv4: addresses.ipv4,
        ipv4_prefix: Ipv4Pool::BLOCK,
        ipv4_gateway: addresses.ipv4_gateway,
        ipv6: addresses.ipv6,
        ipv6_prefix: IPV6_BLOCK,
        ipv6_gateway: addresses.ipv6_gateway,
        mtu,
    }
}

/// `/etc/hosts` of the guest.
fn hosts(hostname: &str, dns: &Dns, addresses: Option<&Addresses>) -> String {
    let mut text = String::from(
        "127.0.0.1 localhost localhost.localdomain\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         fe00::0 ip6-localnet\n\
         ff00::0 ip6-mcastprefix\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n",
    );
    if let Some(addresses) = addresses {
        let fqdn = dns.hostname_fqdn.as_deref().unwrap_or("");
        let names = format!("{fqdn} {hostname} fly-local-6pn");
        text.push_str(&format!("{} {}\n", addresses.ipv6, names.trim()));
        text.push_str(&format!("{} fly-global-services\n", addresses.ipv4));
    }
    text.push_str(&format!("{API_ADDRESS} _api.internal\n"));
    text
}

fn resolv_conf(dns: &Dns, host: &[String]) -> String {
    let mut text = String::new();
    let own = dns.nameservers.as_deref().filter(|servers| !servers.is_empty());
    for server in own.unwrap_or(host) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if let Some(searches) = dns.searches.as_ref().filter(|searches| !searches.is_empty()) {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for option in dns.options.iter().flatten() {
        let value = option.value.as_ref().map_or(String::new(), |value| format!(":{value}"));
        text.push_str(&format!("options {}{value}\n", option.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn name_resolution_follows_the_config() {
        let host = words(&["192.0.2.1"]);
        assert_eq!(resolv_conf(&Dns::default(), &host), "nameserver 192.0.2.1\n");
        let dns = Dns {
            nameservers: Some(words(&["192.0.2.9"])),
            searches: Some(words(&["a.test", "b.test"])),
            options: Some(vec![wire::machines::DnsOption {
                name: "ndots".into(),
                value: Some("2".into()),
                ..Default::default()
            }]),
            ..Dns::default()
        };
        let text = "nameserver 192.0.2.9\nsearch a.test b.test\noptions ndots:2\n";
        assert_eq!(resolv_conf(&dns, &host), text);
    }
}
