//! Texts of settings into values.

use super::WantedAccelerator;
use model::address::Ipv4Pool;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;
use vmm_qemu::Accelerator;
use worker::ports::Shape;

/// Memory that is left to the host when machines may use the rest.
const FOR_THE_HOST_MIB: u64 = 512;

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "it has to be a number in its range".into())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it has to be ADDRESS:PORT, such as 127.0.0.1:4280".into())
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it has to be true or false".into()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text);
    let parsed = parsed.map_err(|_| "it has to be a time, such as 30s or 5m".to_owned())?;
    let most = Duration::from_secs(24 * 3600);
    if parsed.is_zero() || parsed > most {
        return Err("it has to be more than nothing and at most a day".into());
    }
    Ok(parsed)
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    let valid = text.len() <= 190 && text.split('.').all(label);
    valid.then(|| text.to_ascii_lowercase()).ok_or_else(|| "it has to be a domain name".into())
}

/// MiB; empty means what the host has, less some.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    if !text.is_empty() {
        return number(text);
    }
    Ok(host_memory_mib().saturating_sub(FOR_THE_HOST_MIB).max(FOR_THE_HOST_MIB))
}

pub(super) fn overcommit(text: &str) -> Result<f64, String> {
    let factor: f64 = number(text)?;
    let valid = (1.0..=16.0).contains(&factor);
    valid.then_some(factor).ok_or_else(|| "it has to be 1 to 16".into())
}

/// vCPUs and MiB, such as `2x512`.
pub(super) fn shape(text: &str) -> Result<Shape, String> {
    let rule = "it has to be CPUSxMIB, such as 2x512: 1 to 16 CPUs, 128 to 131072 MiB";
    let parse = |text: &str| {
        let (vcpus, memory) = text.split_once('x')?;
        Some(Shape { vcpus: vcpus.parse().ok()?, memory_mib: memory.parse().ok()? })
    };
    let valid = |shape: &Shape| {
        (1..=16).contains(&shape.vcpus) && (128..=131_072).contains(&shape.memory_mib)
    };
    parse(text).filter(valid).ok_or_else(|| rule.into())
}

/// MiB of this machine's memory.
pub(crate) fn host_memory_mib() -> u64 {
    rustix::system::sysinfo().totalram / (1 << 20)
}

pub(super) fn pool(text: &str) -> Result<Ipv4Pool, String> {
    let rule = || "it has to be a network of /8 to /30, such as 172.30.0.0/16".to_owned();
    let (base, prefix) = text.split_once('/').ok_or_else(rule)?;
    let base: Ipv4Addr = base.parse().map_err(|_| rule())?;
    let prefix = prefix.parse().map_err(|_| rule())?;
    Ipv4Pool::new(base, prefix).ok_or_else(rule)
}

pub(super) fn mtu(text: &str) -> Result<u16, String> {
    // 1280 is the least that IPv6 allows.
    let mtu = number(text)?;
    if (1280..=65_000).contains(&mtu) { Ok(mtu) } else { Err("it has to be 1280 to 65000".into()) }
}

pub(super) fn nameserver(text: &str) -> Result<String, String> {
    let address: Result<IpAddr, _> = text.parse();
    address.map(|address| address.to_string()).map_err(|_| "it has to be an IP address".into())
}

pub(super) fn accelerator(text: &str) -> Result<WantedAccelerator, String> {
    match text {
        "auto" => Ok(WantedAccelerator::Auto),
        "kvm" => Ok(WantedAccelerator::Only(Accelerator::Kvm)),
        "tcg" => Ok(WantedAccelerator::Only(Accelerator::Tcg)),
        _ => Err("it has to be auto, kvm or tcg".into()),
    }
}

pub(super) fn compression(text: &str) -> Result<oci::Compression, String> {
    match text {
        "none" => Ok(oci::Compression::None),
        "lz4" => Ok(oci::Compression::Lz4),
        "zstd" => Ok(oci::Compression::Zstd),
        _ => Err("it has to be none, lz4 or zstd".into()),
    }
}

pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("it has to be text or json".into()),
    }
}
