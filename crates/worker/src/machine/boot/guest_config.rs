//! The guest's config: what it is and runs, from the machine's record and image.

use crate::ports::{ImageConfig, RootImage};
use crate::record::Record;
use crate::secrets::MachineSecrets;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guest_protocol::{Device, GuestConfig, GuestFile, Main, Net};
use model::address::{Addresses, IPV6_BLOCK, Ipv4Pool, uncompressed};
use std::collections::BTreeMap;
use wire::machines::{Dns, File, Init, MachineConfig, MachineProcess};

/// The values that the host adds to the record and the image.
pub(super) struct HostFacts<'a> {
    pub(super) region: &'a str,
    pub(super) addresses: Option<Addresses>,
    pub(super) mtu: u16,
    /// Name servers for guests whose config names none.
    pub(super) nameservers: Vec<String>,
    pub(super) now_ns: i64,
    pub(super) entropy: Vec<u8>,
}

/// Bytes of log that the guest keeps while no daemon reads them.
const LOG_BUFFER: u32 = 256 << 10;

/// The guest's config, or why it cannot be made.
pub(super) fn guest_config(
    record: &Record,
    image: &RootImage,
    facts: HostFacts<'_>,
    secrets: &MachineSecrets,
) -> Result<GuestConfig, String> {
    let init = main_process(&record.config);
    let process = process(&record.config);
    let dns = record.config.dns.clone().unwrap_or_default();
    let id = record.id.to_string();
    let hostname = dns.hostname.clone().filter(|name| !name.is_empty()).unwrap_or(id);
    Ok(GuestConfig {
        machine_id: machine_id(record),
        now: facts.now_ns,
        root: Device { path: "/dev/vda".into(), fstype: image.fstype.clone() },
        scratch: Device { path: "/dev/vdb".into(), fstype: "ext4".into() },
        net: facts.addresses.map(|addresses| net(&addresses, facts.mtu)),
        resolv_conf: resolv_conf(&dns, &facts.nameservers),
        hosts: hosts(&hostname, &dns, facts.addresses.as_ref()),
        files: files(record, secrets)?,
        main: Main {
            argv: argv(&init, &image.config)?,
            env: env(record, &image.config, &facts, secrets)?,
            user: process
                .and_then(|process| process.user.clone())
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| image.config.user.clone()),
            workdir: image.config.workdir.clone(),
            tty: init.tty.unwrap_or(false),
        },
        swap_mib: init.swap_size_mb.unwrap_or(0),
        log_buffer: LOG_BUFFER,
        entropy: facts.entropy,
        hostname,
    })
}

/// Constant over the machine's life and unique; derived from the machine's id as
/// systemd derives it from a VM's UUID (machine-id(5)), so it is no secret.
fn machine_id(record: &Record) -> String {
    let id = record.id.to_string();
    format!("{id}{id}{id}")[..32].to_owned()
}

/// The process that the config lists instead of `init`; control refuses several.
fn process(config: &MachineConfig) -> Option<&MachineProcess> {
    config.processes.as_ref()?.first()
}

/// The main process: `init` has the values that a listed process leaves open.
fn main_process(config: &MachineConfig) -> Init {
    let mut init = config.init.clone().unwrap_or_default();
    let Some(process) = process(config) else { return init };
    let given = |argv: &Option<Vec<String>>| argv.clone().filter(|argv| !argv.is_empty());
    let (exec, entrypoint) = (given(&process.exec), given(&process.entrypoint));
    let cmd = given(&process.cmd);
    if exec.is_some() || entrypoint.is_some() || cmd.is_some() {
        init.exec = exec;
    }
    init.entrypoint = entrypoint.or(init.entrypoint);
    init.cmd = cmd.or(init.cmd);
    init
}

/// `init.exec` before `init.entrypoint` and `init.cmd` before the image; overriding
/// the entrypoint keeps the image's CMD.
fn argv(init: &Init, image: &ImageConfig) -> Result<Vec<String>, String> {
    if let Some(exec) = init.exec.as_ref().filter(|exec| !exec.is_empty()) {
        return Ok(exec.clone());
    }
    let mut argv = init.entrypoint.clone().unwrap_or_else(|| image.entrypoint.clone());
    argv.extend(init.cmd.clone().unwrap_or_else(|| image.cmd.clone()));
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err("nothing to run: the image has neither ENTRYPOINT nor CMD, \
                  and config.init gives no exec, entrypoint or cmd"
            .into()),
    }
}

/// The image's environment, then the config's, then the secrets, then the platform's;
/// later wins (fly.io/docs/reference/configuration, fly.io/docs/machines/runtime-environment).
fn env(
    record: &Record,
    image: &ImageConfig,
    facts: &HostFacts<'_>,
    secrets: &MachineSecrets,
) -> Result<Vec<(String, String)>, String> {
    let mut env: BTreeMap<String, String> = image
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    env.extend(record.config.env.clone().unwrap_or_default());
    let process = process(&record.config);
    env.extend(process.and_then(|process| process.env.clone()).unwrap_or_default());
    let ignore = process.and_then(|process| process.ignore_app_secrets) == Some(true);
    let named = process.and_then(|process| process.secrets.as_deref()).unwrap_or_default();
    env.extend(secrets.environment(ignore, named)?);
    let id = record.id.to_string();
    let platform = [
        ("FLY_APP_NAME", record.app_name.to_string()),
        ("FLY_MACHINE_ID", id.clone()),
        ("FLY_ALLOC_ID", id),
        ("FLY_REGION", facts.region.into()),
        ("FLY_IMAGE_REF", record.config.image.clone()),
        ("FLY_MACHINE_VERSION", record.instance.to_string()),
        ("FLY_PROCESS_GROUP", record.process_group().into()),
        ("FLY_VM_MEMORY_MB", record.memory_mib().to_string()),
        ("FLY_PRIVATE_IP", facts.addresses.map_or(String::new(), |a| uncompressed(a.ipv6))),
    ];
    env.extend(platform.map(|(name, value)| (name.to_owned(), value)));
    env.entry("PRIMARY_REGION".into()).or_insert_with(|| facts.region.into());
    Ok(env.into_iter().collect())
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
         ::1 localhost ip6-localhost ip6-loopback\n",
    );
    if let Some(addresses) = addresses {
        let fqdn = dns.hostname_fqdn.as_deref().unwrap_or("");
        let names = format!("{fqdn} {hostname} fly-local-6pn");
        text.push_str(&format!("{} {}\n", addresses.ipv6, names.trim()));
        text.push_str(&format!("{} fly-global-services\n", addresses.ipv4));
    }
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

fn files(record: &Record, secrets: &MachineSecrets) -> Result<Vec<GuestFile>, String> {
    let content = |file: &File| match (&file.raw_value, &file.secret_name) {
        (Some(raw), _) => {
            Some(STANDARD.decode(raw).map_err(|err| format!("raw_value is not base64: {err}")))
        }
        (None, Some(name)) if !name.is_empty() => Some(secrets.file(name)),
        _ => None,
    };
    let guest_file = |(file, content): (&File, Result<Vec<u8>, String>)| {
        let path = file.guest_path.clone();
        let content = content.map_err(|why| format!("file {path} cannot be written: {why}"))?;
        Ok(GuestFile { path, mode: file.mode.unwrap_or(0o644), content })
    };
    let files = record.config.files.iter().flatten();
    files.filter_map(|file| Some((file, content(file)?))).map(guest_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::secrets::tests::of_app;
    use serde_json::json;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn the_command_line() {
        let image = ImageConfig {
            entrypoint: words(&["/entry"]),
            cmd: words(&["serve"]),
            ..ImageConfig::default()
        };
        let run = |exec: &[&str], entrypoint: Option<&[&str]>, cmd: Option<&[&str]>| {
            let init = Init {
                exec: Some(words(exec)),
                entrypoint: entrypoint.map(words),
                cmd: cmd.map(words),
                ..Init::default()
            };
            argv(&init, &image).map(|argv| argv.join(" ")).unwrap_or_else(|_| "nothing".into())
        };
        assert_eq!(run(&[], None, None), "/entry serve");
        assert_eq!(run(&[], None, Some(&["migrate"])), "/entry migrate");
        assert_eq!(run(&[], Some(&["sh", "-c"]), None), "sh -c serve");
        assert_eq!(run(&["top"], Some(&["sh"]), Some(&["x"])), "top");
        assert_eq!(run(&[], Some(&[]), Some(&[])), "nothing");
    }

    #[test]
    fn the_platforms_environment_beats_secrets_beat_the_configs_beats_the_images() {
        let mut record = sample();
        record.config.env = Some(["A", "B", "D"].map(|name| (name.into(), "config".into())).into());
        let image = ImageConfig {
            env: words(&["A=image", "C=image=x", "FLY_APP_NAME=fake", "broken"]),
            ..ImageConfig::default()
        };
        let facts = HostFacts {
            region: "here",
            addresses: None,
            mtu: 1500,
            nameservers: Vec::new(),
            now_ns: 0,
            entropy: Vec::new(),
        };
        let secrets = of_app(&[("D", "secret"), ("FLY_REGION", "secret"), ("S", "secret")]);
        let all = env(&record, &image, &facts, &secrets).unwrap();
        let env: BTreeMap<_, _> = all.into_iter().collect();
        for (name, value) in [
            ("A", "config"),
            ("B", "config"),
            ("C", "image=x"),
            ("D", "secret"),
            ("S", "secret"),
            ("FLY_REGION", "here"),
        ] {
            assert_eq!(env[name], value);
        }
        assert_eq!(env["FLY_APP_NAME"], "web");
        assert_eq!(env["PRIMARY_REGION"], "here");
        assert!(!env.contains_key("broken"));
    }

    #[test]
    fn a_single_process_is_the_main_process() {
        let argv_of = |config: serde_json::Value| {
            let config: MachineConfig = serde_json::from_value(config).unwrap();
            let image = ImageConfig {
                entrypoint: words(&["/entry"]),
                cmd: words(&["image"]),
                ..ImageConfig::default()
            };
            argv(&main_process(&config), &image).unwrap().join(" ")
        };
        for (init, process, expected) in [
            (json!({}), json!({}), "/entry image"),
            (json!({}), json!({ "cmd": ["sleep", "1"] }), "/entry sleep 1"),
            (json!({}), json!({ "exec": ["sh"], "cmd": [] }), "sh"),
            (json!({}), json!({ "entrypoint": ["/other"] }), "/other image"),
            (json!({ "exec": ["a"] }), json!({ "cmd": ["b"] }), "/entry b"),
            (json!({ "exec": ["a"] }), json!({ "user": "web" }), "a"),
            (json!({ "entrypoint": ["a"] }), json!({ "cmd": ["b"] }), "a b"),
        ] {
            let config = json!({ "image": "x", "init": init, "processes": [process] });
            assert_eq!(argv_of(config.clone()), expected, "{config}");
        }
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
            }]),
            ..Dns::default()
        };
        let text = "nameserver 192.0.2.9\nsearch a.test b.test\noptions ndots:2\n";
        assert_eq!(resolv_conf(&dns, &host), text);
    }
}
