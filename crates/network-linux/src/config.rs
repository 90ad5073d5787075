//! What the network of one daemon needs to know, in types that cannot be wrong.

use camino::Utf8Path;
use model::address::{Ipv4Pool, Slot};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Settings of [`crate::LinuxNetwork`].
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Tells our taps and tables from those of another daemon.
    pub tag: Tag,
    /// Where the machines' IPv4 addresses come from.
    pub pool: Ipv4Pool,
    /// Hide guests behind the host's own addresses on their way out, both
    /// IPv4 and IPv6. Off: somebody else routes the machines' addresses.
    pub masquerade: bool,
    /// Destinations that guests must not reach, such as `10.0.0.0/8`.
    pub block_egress: Vec<Cidr>,
    /// MTU of the taps.
    pub mtu: u32,
    /// Most flows that one guest has open to the world and the host at a time.
    /// They are entries of the host's connection table, which all share.
    pub max_flows: u32,
    /// Most taps that are kept ready for machines that are stopped.
    pub max_resting: usize,
}

impl NetworkConfig {
    /// The usual settings for a daemon whose state is in `data_dir`.
    pub fn new(data_dir: &Utf8Path, pool: Ipv4Pool) -> Self {
        let tag = Tag::for_data_dir(data_dir);
        let (masquerade, block_egress) = (true, Vec::new());
        let (mtu, max_flows, max_resting) = (1500, 8192, 256);
        Self { tag, pool, masquerade, block_egress, mtu, max_flows, max_resting }
    }
}

/// Four hex digits in the names of everything one daemon makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u16);

impl Tag {
    /// From the data directory, which only one daemon at a time can hold. The
    /// same over restarts and versions: that is how leftovers are found.
    pub fn for_data_dir(data_dir: &Utf8Path) -> Self {
        // FNV-1a, folded. The standard library's hasher may change.
        let hash = data_dir
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Self((hash >> 16) as u16 ^ hash as u16)
    }

    /// Beginning of the names of all taps of this daemon.
    pub(crate) fn tap_prefix(self) -> String {
        format!("ud{self}")
    }

    /// Name of a slot's tap; 10 of the 15 letters that Linux allows.
    pub fn tap(self, slot: Slot) -> String {
        format!("ud{self}{:04x}", slot.0)
    }

    /// The slot of a tap of this daemon, from its name.
    pub(crate) fn slot_of(self, tap: &str) -> Option<Slot> {
        tap.strip_prefix(&self.tap_prefix()).and_then(parse_slot)
    }
}

/// Four lower-case hex digits, as in names of taps and chains.
pub(crate) fn parse_slot(digits: &str) -> Option<Slot> {
    let slot = Slot(u16::from_str_radix(digits, 16).ok()?);
    (format!("{:04x}", slot.0) == digits).then_some(slot)
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

/// Text that is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address prefix: it should look like 10.0.0.0/8 or fc00::/7, with no bits set behind the prefix"
)]
pub struct BadConfig(String);

impl Cidr {
    /// It is an IPv4 prefix.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl FromStr for Cidr {
    type Err = BadConfig;

    fn from_str(text: &str) -> Result<Self, BadConfig> {
        let bad = || BadConfig(text.chars().take(80).collect());
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let (bits, width) = match address {
            IpAddr::V4(a) => (u128::from(Ipv4Addr::to_bits(a)) << 96, 32),
            IpAddr::V6(a) => (a.to_bits(), 128),
        };
        let tail = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        if length > width || bits & tail != 0 {
            return Err(bad());
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_names_its_daemon_and_its_slot() {
        let tag = Tag::for_data_dir("/var/lib/updraft".into());
        assert_eq!(tag.tap(Slot(0x2a)), "ude45e002a");
        assert_eq!(tag.slot_of("ude45e002a"), Some(Slot(0x2a)));
        for foreign in ["ud5cf6002a", "ude45e2a", "ude45e002A", "ude45e+02a", "eth0", "ude45e0002a"]
        {
            assert_eq!(tag.slot_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn prefixes() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "fc00::/7", "::/0", "::1/128"] {
            assert_eq!(good.parse::<Cidr>().unwrap().to_string(), good);
        }
        for bad in ["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "fc00::1/7", "::/129", "a/8", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
