//! Texts of settings into values.

use super::{MetricsAccess, Peer, Role, WantedAccelerator};
use model::address::Ipv4Pool;
use model::id::{HostId, RegionCode};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;
use vmm_qemu::Accelerator;
use worker::ports::Shape;

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "it has to be a number in its range".into())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it has to be ADDRESS:PORT, such as 127.0.0.1:4280".into())
}

/// An address to listen on, also as the URL that clients use for it.
pub(super) fn api_address(text: &str) -> Result<SocketAddr, String> {
    if text.starts_with("https://") {
        return Err("the API does not serve TLS yet; give ADDRESS:PORT or http://ADDRESS:PORT. \
                    UPDRAFT_API is also the command line's: --api overrides it here"
            .into());
    }
    let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let plain = match plain.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => plain.to_owned(),
    };
    address(&plain).map_err(|_| {
        "it has to be ADDRESS:PORT or http://ADDRESS:PORT, such as 127.0.0.1:4280".into()
    })
}

/// An address, if one is given.
pub(super) fn optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() { Ok(None) } else { address(text).map(Some) }
}

/// Where tunnels are accepted; `None` if nowhere. Clients dial port 443 and no other.
pub(super) fn tunnel(text: &str) -> Result<Option<SocketAddr>, String> {
    const PORT: u16 = 443;
    if text.is_empty() || text == "off" {
        return Ok(None);
    }
    let with_port = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let parsed = with_port.or_else(|_| text.parse());
    parsed.map(Some).map_err(|_| "it has to be ADDRESS, ADDRESS:PORT or off".into())
}

/// An address without a port, if one is given.
pub(super) fn optional_ip(text: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "it has to be an IP address".into())
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|_| "a role is control, worker or edge".to_owned())
}

pub(super) fn region(text: &str) -> Result<RegionCode, String> {
    text.parse().map_err(|err: model::id::BadId| err.to_string())
}

/// A DNS label; empty means the machine's own host name.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = match text {
        "" => own_name(),
        text => text.to_ascii_lowercase(),
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let valid = (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-');
    valid.then_some(name).ok_or_else(|| "it has to be letters, digits and dashes".into())
}

/// The first label of the machine's host name, as far as it can be one of ours.
fn own_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().to_ascii_lowercase();
    let label = name.split('.').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let label: String = label.chars().map(plain).take(63).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "host".to_owned() } else { label.to_owned() }
}

/// `number:name=address:port`.
pub(super) fn peer(text: &str) -> Result<Peer, String> {
    let rule = "it has to be NUMBER:NAME=ADDRESS:PORT, such as 2:b=10.0.0.2:4281";
    let (who, at) = text.split_once('=').ok_or(rule)?;
    let (number, name) = who.split_once(':').ok_or(rule)?;
    let number = number.parse().map(HostId).map_err(|_| rule)?;
    let name = Some(name).filter(|name| !name.is_empty()).ok_or(rule)?;
    let name = host_name(name).map_err(|_| rule)?;
    Ok(Peer { number, name, address: address(at).map_err(|_| rule)? })
}

pub(super) fn metrics_access(text: &str) -> Result<MetricsAccess, String> {
    match text {
        "admin" => Ok(MetricsAccess::AdminToken),
        "none" => Ok(MetricsAccess::Open),
        token if token.len() >= 16 && token.bytes().all(|b| b.is_ascii_graphic() && b != b',') => {
            Ok(MetricsAccess::Token(token.to_owned()))
        }
        // The text may be a secret: it is not repeated here.
        _ => Err("it has to be admin, none, or a token of at least 16 visible characters \
                  without commas"
            .into()),
    }
}

pub(super) fn cidr(text: &str) -> Result<network_linux::Cidr, String> {
    text.parse().map_err(|err: network_linux::BadConfig| err.to_string())
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

/// How long records are kept.
pub(super) fn retention(text: &str) -> Result<Duration, String> {
    let rule = "it has to be a time such as 90d, from 1h to 3650d";
    let parsed = humantime::parse_duration(text).map_err(|_| rule.to_owned())?;
    let allowed = Duration::from_secs(3600)..=Duration::from_secs(3650 * 24 * 3600);
    if allowed.contains(&parsed) { Ok(parsed) } else { Err(rule.into()) }
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    let valid = text.len() <= 190 && text.split('.').all(label);
    valid.then(|| text.to_ascii_lowercase()).ok_or_else(|| "it has to be a domain name".into())
}

/// MiB, if given.
pub(super) fn memory(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() { Ok(None) } else { number(text).map(Some) }
}

/// What machines may use if the host keeps so much for itself; never nothing.
pub(super) fn memory_for_machines(reserve_mib: u64) -> u64 {
    const LEAST_MIB: u64 = 512;
    host_memory_mib().saturating_sub(reserve_mib).max(LEAST_MIB)
}

/// How many times what there is may be promised.
pub(super) fn overcommit(text: &str) -> Result<f64, String> {
    let factor: f64 = number(text)?;
    let valid = (1.0..=16.0).contains(&factor);
    valid.then_some(factor).ok_or_else(|| "it has to be 1 to 16".into())
}

/// How many times disk space is promised: disks are sparse, and most stay so.
pub(super) fn disk_overcommit(text: &str) -> Result<u32, String> {
    let factor: u32 = number(text)?;
    let valid = (1..=1000).contains(&factor);
    valid.then_some(factor).ok_or_else(|| "it has to be a whole number from 1 to 1000".into())
}

/// Space for the audit log: at least two of its files.
pub(super) fn audit_mib(text: &str) -> Result<u64, String> {
    let mib: u64 = number(text)?;
    let valid = (8..=1_048_576).contains(&mib);
    valid.then_some(mib).ok_or_else(|| "it has to be a whole number from 8 to 1048576".into())
}

/// Space for one log, or for all: at least four of its files.
pub(super) fn logs_mib(text: &str) -> Result<u64, String> {
    let mib: u64 = number(text)?;
    let valid = (1..=1_048_576).contains(&mib);
    valid.then_some(mib).ok_or_else(|| "it has to be a whole number from 1 to 1048576".into())
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

/// Private addresses of host 0 unless its settings name others.
pub(super) const FIRST_POOL: Ipv4Pool = match Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16) {
    Some(pool) => pool,
    None => panic!("a prefix of 16 bits"),
};
/// What the other hosts share, and how many of them there is room for.
const OTHER_POOLS: Ipv4Pool = match Ipv4Pool::new(Ipv4Addr::new(10, 192, 0, 0), 10) {
    Some(pool) => pool,
    None => panic!("a prefix of 10 bits"),
};
const OTHER_HOSTS: u16 = 1024;

/// The private addresses that a host has by default: those of no other host.
pub(super) fn pool_of_host(number: u16) -> Option<Ipv4Pool> {
    if number == 0 {
        return Some(FIRST_POOL);
    }
    network_linux::pool_slice(OTHER_POOLS, number, OTHER_HOSTS)
}

pub(super) fn optional_pool(text: &str) -> Result<Option<Ipv4Pool>, String> {
    if text.is_empty() { Ok(None) } else { pool(text).map(Some) }
}

fn pool(text: &str) -> Result<Ipv4Pool, String> {
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
