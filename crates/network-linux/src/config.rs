//! Settings of the network of one platform.

use camino::{Utf8Path, Utf8PathBuf};
use model::address::{Ipv4Pool, Slot};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Settings of [`crate::LinuxNetwork`].
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where the state of this platform is.
    pub data_dir: Utf8PathBuf,
    /// Names the taps, tables and the namespace of this platform.
    pub tag: Tag,
    /// Names the data directory that the tag belongs to while there is a platform.
    pub owner_file: Utf8PathBuf,
    /// Where the network namespace is mounted, as by `ip netns add`.
    pub namespace: Utf8PathBuf,
    /// Where the machines' IPv4 addresses come from.
    pub pool: Ipv4Pool,
    /// Replace the guests' source addresses by the host's on their way out, both
    /// IPv4 and IPv6. Off: the network around the host routes the pool and 6PN.
    pub masquerade: bool,
    /// Destinations that guests must not reach, such as `192.0.2.0/24`.
    pub block_egress: Vec<Cidr>,
    /// Destinations that guests may reach though they are private or connected
    /// to the host, such as `10.0.0.0/8`. `block_egress` and the host's own
    /// addresses stay closed.
    pub allow_egress: Vec<Cidr>,
    /// Name servers that guests are configured with at first: port 53 of these is open to
    /// guests, and of those that [`worker::ports::Network::open_name_servers`] adds.
    pub nameservers: Vec<IpAddr>,
    /// MTU of the taps.
    pub mtu: u32,
    /// Most flows that one guest has open at a time. They are entries of the
    /// kernel's connection table. `None`: 1/64 of the table's size
    /// (`nf_conntrack_max`), at least 256 and at most 8192.
    pub max_flows: Option<u32>,
    /// Most flows that all guests have open at a time, counted by hash in 256 parts.
    /// `None`: half of the table's size, at least 4096.
    pub max_flows_of_all: Option<u32>,
    /// Most taps that are parked for machines that are stopped.
    pub max_parked: usize,
}

impl NetworkConfig {
    /// The usual settings for a daemon whose state is in `data_dir`.
    pub fn new(data_dir: &Utf8Path, pool: Ipv4Pool) -> Self {
        let tag = Tag::for_data_dir(data_dir);
        Self {
            data_dir: data_dir.to_owned(),
            tag,
            owner_file: Utf8PathBuf::from(format!("/run/updraft/{tag}.data-dir")),
            namespace: Utf8PathBuf::from(format!("/run/netns/updraft-{tag}")),
            pool,
            masquerade: true,
            block_egress: Vec::new(),
            allow_egress: Vec::new(),
            nameservers: Vec::new(),
            mtu: 1500,
            max_flows: None,
            max_flows_of_all: None,
            max_parked: 256,
        }
    }
}

/// The part of `pool` that host number `host` uses when the pools of up to
/// `hosts` hosts are routed in one network. Numbers begin with 1, so the first
/// host keeps its addresses when others join. `None` if there is no such part.
pub fn pool_slice(pool: Ipv4Pool, host: u16, hosts: u16) -> Option<Ipv4Pool> {
    let index = host.checked_sub(1).filter(|_| host <= hosts)?;
    let (base, length) = pool.cidr();
    let bits = u16::BITS - (hosts - 1).leading_zeros();
    let length = length + u8::try_from(bits).ok()?;
    let size = 1_u32.checked_shl(32 - u32::from(length))?;
    Ipv4Pool::new(Ipv4Addr::from_bits(base.to_bits() + u32::from(index) * size), length)
}

/// Four hex digits in the names of everything that one platform creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u16);

impl Tag {
    /// Derives the tag from the data directory, which only one daemon at a time
    /// can lock. It is the same in all versions, so that taps and rules of an
    /// earlier daemon are found.
    pub fn for_data_dir(data_dir: &Utf8Path) -> Self {
        // FNV-1a, folded. The standard library's hasher may change.
        let hash = data_dir
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Self((hash >> 16) as u16 ^ hash as u16)
    }

    /// The tag as a number.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// First letters of the names of all taps of this platform.
    pub(crate) fn tap_prefix(self) -> String {
        format!("ud{self}")
    }

    /// Name of a slot's tap; 10 of the 15 letters that Linux allows.
    pub fn tap(self, slot: Slot) -> String {
        format!("ud{self}{:04x}", slot.0)
    }

    /// The slot of a tap of this platform, from its name.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

/// A text that is not an address prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address prefix: it should look like 10.0.0.0/8 or fc00::/7, with no bits set behind the prefix"
)]
pub struct BadConfig(String);

impl Cidr {
    /// The prefix of `length` bits that `address` is in.
    pub(crate) fn containing(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(address.to_bits() & !mask).into(), length }
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(address.to_bits() & !mask).into(), length }
            }
        }
    }

    /// The prefix of one address.
    pub(crate) fn single(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The first address.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Number of fixed bits.
    pub(crate) fn length(&self) -> u8 {
        self.length
    }

    /// Whether all addresses of `other` are in this prefix.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.overlaps(other)
    }

    /// Whether these are addresses that never leave a node.
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.is_loopback()
    }

    /// Whether any address is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let length = self.length.min(other.length);
        self.address.is_ipv4() == other.address.is_ipv4()
            && Self::containing(self.address, length) == Self::containing(other.address, length)
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
    fn a_tap_names_its_platform_and_its_slot() {
        let tag = Tag::for_data_dir("/var/lib/updraft".into());
        assert_eq!(tag.tap(Slot(0x2a)), "ude45e002a");
        assert_eq!(tag.slot_of("ude45e002a"), Some(Slot(0x2a)));
        for foreign in ["ud5cf6002a", "ude45e2a", "ude45e002A", "ude45e+02a", "eth0", "ude45e0002a"]
        {
            assert_eq!(tag.slot_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn no_two_hosts_share_an_address_of_a_pool() {
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
        let slice = |host, hosts| {
            pool_slice(pool, host, hosts).map(|slice| {
                let (base, length) = slice.cidr();
                format!("{base}/{length}").parse::<Cidr>().unwrap()
            })
        };
        assert_eq!(slice(1, 1).unwrap().to_string(), "172.30.0.0/16");
        assert_eq!(slice(5, 5).unwrap().to_string(), "172.30.128.0/19");
        for hosts in [2, 3, 64] {
            let slices: Vec<_> = (1..=hosts).map(|host| slice(host, hosts).unwrap()).collect();
            for (at, a) in slices.iter().enumerate() {
                assert!(slices[..at].iter().all(|b| !a.overlaps(b)), "{hosts} hosts: {a}");
            }
        }
        // No host 0, no host beyond the number, no slice without an address.
        for (host, hosts) in [(0, 4), (5, 4), (1, 0), (1, 32768)] {
            assert_eq!(slice(host, hosts), None, "{host} of {hosts}");
        }
    }

    #[test]
    fn prefixes_that_overlap() {
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.1.2.0/24", true),
            ("10.1.2.0/24", "10.0.0.0/8", true),
            ("10.0.0.0/9", "10.128.0.0/9", false),
            ("0.0.0.0/0", "192.0.2.1/32", true),
            ("::/0", "192.0.2.1/32", false),
            ("fd00::/8", "fd12::/48", true),
        ] {
            let [a, b] = [a, b].map(|text| text.parse::<Cidr>().unwrap());
            assert_eq!(a.overlaps(&b), overlap, "{a} {b}");
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
