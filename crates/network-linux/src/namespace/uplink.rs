//! The veth pair between the platform's namespace and the daemon's own.
//!
//! ```text
//!  platform's namespace          daemon's namespace
//!  taps -- uplink .2/30 ======== ud<tag>-host .1/30 -- routing, masquerade --> the world
//! ```
//!
//! The /30 and the /126 of the link are chosen so that they overlap no route of
//! the host, hence also no other platform's link.

use super::holder::Namespace;
use crate::config::{Cidr, NetworkConfig, Tag};
use crate::interface::{Interface, Links, Route, VethEnd, sysctl};
use crate::nftables::base::{HostNetworks, UPLINK};
use crate::nftables::{Netfilter, base, uplink};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use worker::ports::PortError;

/// Where the link's IPv4 addresses come from: shared address space (RFC 6598),
/// the benchmark range (RFC 2544), and two private ranges that are rarely used.
const RANGES: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(100, 127, 0, 0), 16),
    (Ipv4Addr::new(198, 19, 0, 0), 16),
    (Ipv4Addr::new(10, 213, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 213, 0), 24),
];
/// A unique local prefix (RFC 4193); the tag and a number follow.
const RANGE6: u128 = 0xfd75_7064_6100 << 80;
const TRIES6: u128 = 64;

/// The addresses of the link; the host's end and the platform's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    host4: Ipv4Addr,
    own4: Ipv4Addr,
    host6: Ipv6Addr,
    own6: Ipv6Addr,
}

/// The link of one platform, and the rules for it in the daemon's namespace.
#[derive(Debug)]
pub(crate) struct Uplink {
    config: NetworkConfig,
    links: Links,
    netfilter: Netfilter,
    /// How many rules the table has when it is complete. Held while they change.
    rules: Mutex<usize>,
}

/// Name of the host's end of the link.
pub(crate) fn link_name(tag: Tag) -> String {
    format!("{}-host", tag.tap_prefix())
}

impl Uplink {
    /// Opens sockets in the namespace of the calling thread, the daemon's own.
    pub(crate) fn open(config: NetworkConfig) -> Result<Self, PortError> {
        let (links, netfilter) = (Links::open()?, Netfilter::open()?);
        Ok(Self { config, links, netfilter, rules: Mutex::default() })
    }

    /// The host's addresses and networks, which guests must not reach.
    pub(crate) fn host_networks(&self) -> Result<HostNetworks, PortError> {
        let addresses = self.links.addresses()?;
        let addresses: Vec<_> = addresses.into_iter().map(|(_, address, _)| address).collect();
        Ok(HostNetworks::of(&self.links.routes()?, &addresses))
    }

    /// Creates the link with its addresses, routes and rules; what exists stays.
    /// `inside` are the interfaces of `namespace`.
    pub(crate) fn ensure(&self, namespace: &Namespace, inside: &Links) -> Result<(), PortError> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let name = link_name(self.config.tag);
        let routes = self.links.routes()?;
        let ends = self.existing(&name, inside, &routes)?;
        let (near, far, addresses) = match ends {
            Some(ends) => ends,
            None => self.create(&name, namespace, inside, &routes)?,
        };
        self.refuse_conflict(&routes, near.index)?;
        sysctl::configure_uplink(&near.name)?;
        namespace.run(|| sysctl::configure_uplink(UPLINK))??;
        let Addresses { host4, own4, host6, own6 } = addresses;
        let [near_mac, far_mac] = self.macs();
        let host = [(host4.into(), 30), (host6.into(), 126)];
        self.links.configure_veth(&near, &host, (&[own4.into(), own6.into()], far_mac))?;
        let own = [(own4.into(), 30), (own6.into(), 126)];
        inside.configure_veth(&far, &own, (&[host4.into(), host6.into()], near_mac))?;
        for gateway in [IpAddr::V4(host4), IpAddr::V6(host6)] {
            inside.add_route(everything(gateway), gateway, &far)?;
        }
        let sources = self.sources(addresses);
        if !self.config.masquerade {
            for (source, gateway) in sources.iter().zip([IpAddr::V4(own4), IpAddr::V6(own6)]) {
                self.links.add_route(*source, gateway, &near)?;
            }
        }
        let batch = uplink::create(&self.config, &near.name, &sources);
        *rules = batch.rules();
        let table = uplink::table(self.config.tag);
        let applied = self.netfilter.apply(batch);
        applied.map_err(|err| PortError::new(format!("create table {table} in nftables"), err))
    }

    /// Whether the link and its rules are complete.
    pub(crate) fn is_complete(&self) -> Result<bool, PortError> {
        let wanted = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let table = uplink::table(self.config.tag);
        let found = self.netfilter.rules(&table);
        let found = found.map_err(|err| PortError::new(format!("list rules of {table}"), err))?;
        Ok(found == *wanted && self.links.find(&link_name(self.config.tag))?.is_some())
    }

    /// Removes link and rules.
    pub(crate) fn remove(&self) -> Result<(), PortError> {
        if let Some(link) = self.links.find(&link_name(self.config.tag))? {
            self.links.delete(&link)?;
        }
        let table = uplink::table(self.config.tag);
        let removed = self.netfilter.apply(uplink::remove(self.config.tag));
        removed.map_err(|err| PortError::new(format!("remove table {table} of nftables"), err))
    }

    /// Taps in the daemon's namespace: earlier versions had them there.
    pub(crate) fn earlier_taps(&self) -> Result<Vec<String>, PortError> {
        let mut names = self.links.names()?;
        names.retain(|name| self.config.tag.slot_of(name).is_some());
        Ok(names)
    }

    /// Moves the taps of an earlier version into the namespace and removes its
    /// rules. A VM keeps its tap; its addresses and rules are set by `adopt`.
    pub(crate) fn move_earlier_taps(
        &self,
        namespace: &Namespace,
        inside: &Links,
    ) -> Result<(), PortError> {
        for name in self.earlier_taps()? {
            let Some(tap) = self.links.find(&name)? else { continue };
            // With its name taken inside, it is not the tap of a running machine.
            if inside.find(&name)?.is_some() {
                self.links.delete(&tap)?;
            } else {
                self.links.move_to(&tap, std::os::fd::AsFd::as_fd(namespace))?;
                tracing::info!(tap = name, "moved to the platform's network namespace");
            }
        }
        self.remove_earlier_rules()
    }

    /// Removes taps and rules of an earlier version.
    pub(crate) fn remove_earlier(&self) -> Result<(), PortError> {
        for name in self.earlier_taps()? {
            if let Some(tap) = self.links.find(&name)? {
                self.links.delete(&tap)?;
            }
        }
        self.remove_earlier_rules()
    }

    fn remove_earlier_rules(&self) -> Result<(), PortError> {
        let table = base::table(self.config.tag);
        let removed = self.netfilter.chains(&table).and_then(|chains| match chains.is_empty() {
            true => Ok(()),
            false => self.netfilter.apply(base::remove(self.config.tag)),
        });
        removed.map_err(|err| PortError::new(format!("remove table {table} of nftables"), err))
    }

    /// The link, if both ends exist and its addresses are free of conflicts. A
    /// part of a link is removed.
    fn existing(
        &self,
        name: &str,
        inside: &Links,
        routes: &[Route],
    ) -> Result<Option<(Interface, Interface, Addresses)>, PortError> {
        let (near, far) = (self.links.find(name)?, inside.find(UPLINK)?);
        if let (Some(near), Some(far)) = (&near, &far) {
            let addresses = self.addresses_of(near.index)?;
            let free = addresses.filter(|addresses| is_free(addresses, routes, near.index));
            if let Some(addresses) = free {
                return Ok(Some((near.clone(), far.clone(), addresses)));
            }
        }
        // Deleting one end of a pair deletes the other.
        if let Some(near) = near {
            self.links.delete(&near)?;
        }
        match inside.find(UPLINK)? {
            Some(far) => inside.delete(&far).map(|()| None),
            None => Ok(None),
        }
    }

    fn addresses_of(&self, index: u32) -> Result<Option<Addresses>, PortError> {
        let (mut v4, mut v6) = (None, None);
        for (of, address, length) in self.links.addresses()? {
            match address {
                IpAddr::V4(address) if of == index && length == 30 => v4 = Some(address),
                IpAddr::V6(address) if of == index && length == 126 => v6 = Some(address),
                _ => {}
            }
        }
        Ok(v4.zip(v6).map(|(v4, v6)| Addresses::of_blocks(v4.to_bits() & !3, v6.to_bits() & !3)))
    }

    fn create(
        &self,
        name: &str,
        namespace: &Namespace,
        inside: &Links,
        routes: &[Route],
    ) -> Result<(Interface, Interface, Addresses), PortError> {
        let addresses = choose(&self.config, routes).ok_or_else(|| {
            PortError::plain(
                "find addresses for the link of the machines' network: all of 100.127.0.0/16, \
                 198.19.0.0/16, 10.213.0.0/16 and 192.168.213.0/24 overlap routes of this host; \
                 free a /30 in one of them",
            )
        })?;
        let [near_mac, far_mac] = self.macs();
        let near = VethEnd { name: name.to_owned(), mac: near_mac };
        let far = VethEnd { name: UPLINK.to_owned(), mac: far_mac };
        let namespace = std::os::fd::AsFd::as_fd(namespace);
        self.links.create_veth(&near, &far, namespace, self.config.mtu)?;
        match (self.links.find(name)?, inside.find(UPLINK)?) {
            (Some(near), Some(far)) => Ok((near, far, addresses)),
            _ => Err(PortError::plain(format!("create the veth pair {name}: it was removed"))),
        }
    }

    /// Without masquerading, the pool must be routed by the link alone.
    fn refuse_conflict(&self, routes: &[Route], own: u32) -> Result<(), PortError> {
        if self.config.masquerade {
            return Ok(());
        }
        let Some(conflict) = pool_conflict(&self.config, routes, own) else { return Ok(()) };
        let (pool, length) = self.config.pool.cidr();
        Err(PortError::plain(format!(
            "route the machines' addresses: {pool}/{length} overlaps {}, which this host reaches \
             by interface {}; choose another --ipv4-pool",
            conflict.to,
            conflict.interface.map_or("?".to_owned(), |index| index.to_string()),
        )))
    }

    /// Sources that come through the link.
    fn sources(&self, addresses: Addresses) -> [Cidr; 2] {
        if self.config.masquerade {
            return [Cidr::single(addresses.own4.into()), Cidr::single(addresses.own6.into())];
        }
        let (pool, length) = self.config.pool.cidr();
        let six = Ipv6Addr::from_bits(0xfdaa << 112);
        [Cidr::containing(pool.into(), length), Cidr::containing(six.into(), 16)]
    }

    fn macs(&self) -> [[u8; 6]; 2] {
        let [high, low] = self.config.tag.number().to_be_bytes();
        [1, 2].map(|end| [0x02, 0x75, 0xff, high, low, end])
    }
}

impl Addresses {
    /// From the first addresses of the /30 and the /126.
    fn of_blocks(v4: u32, v6: u128) -> Self {
        Self {
            host4: Ipv4Addr::from_bits(v4 + 1),
            own4: Ipv4Addr::from_bits(v4 + 2),
            host6: Ipv6Addr::from_bits(v6 + 1),
            own6: Ipv6Addr::from_bits(v6 + 2),
        }
    }

    fn blocks(&self) -> [Cidr; 2] {
        [Cidr::containing(self.host4.into(), 30), Cidr::containing(self.host6.into(), 126)]
    }
}

/// The route, other than default routes and those of interface `own`, that
/// overlaps the pool.
pub(crate) fn pool_conflict(config: &NetworkConfig, routes: &[Route], own: u32) -> Option<Route> {
    let (pool, length) = config.pool.cidr();
    let pool = Cidr::containing(pool.into(), length);
    let others = routes.iter().filter(|route| route.to.length() > 0);
    others.filter(|route| route.interface != Some(own)).find(|r| r.to.overlaps(&pool)).cloned()
}

fn everything(family: IpAddr) -> Cidr {
    Cidr::containing(family, 0)
}

/// No other interface has a route to any address of the link.
fn is_free(addresses: &Addresses, routes: &[Route], own: u32) -> bool {
    let others = routes.iter().filter(|r| r.to.length() > 0 && r.interface != Some(own));
    let blocks = addresses.blocks();
    !others.into_iter().any(|route| blocks.iter().any(|block| block.overlaps(&route.to)))
}

/// The first free blocks; the tag determines where the search begins, so that two
/// platforms that start at once hardly meet.
fn choose(config: &NetworkConfig, routes: &[Route]) -> Option<Addresses> {
    let (pool, length) = config.pool.cidr();
    let pool = Cidr::containing(pool.into(), length);
    let taken: Vec<Cidr> =
        routes.iter().map(|route| route.to).filter(|to| to.length() > 0).collect();
    let free = |block: &Cidr| !block.overlaps(&pool) && !taken.iter().any(|t| t.overlaps(block));
    let tag = config.tag.number();
    let v4 = RANGES.iter().find_map(|(first, length)| {
        let blocks = 1_u32 << (30 - length);
        let mut tries = (0..blocks).map(|n| first.to_bits() + (u32::from(tag) + n) % blocks * 4);
        tries.find(|block| free(&Cidr::containing(Ipv4Addr::from_bits(*block).into(), 30)))
    })?;
    let v6 = (0..TRIES6)
        .map(|n| RANGE6 | (u128::from(tag) << 64) | (n << 2))
        .find(|block| free(&Cidr::containing(Ipv6Addr::from_bits(*block).into(), 126)))?;
    Some(Addresses::of_blocks(v4, v6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::address::Ipv4Pool;

    fn route(to: &str) -> Route {
        Route { to: to.parse().unwrap(), interface: Some(7), local: false, connected: true }
    }

    fn config() -> NetworkConfig {
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
        NetworkConfig::new("/var/lib/updraft".into(), pool)
    }

    #[test]
    fn a_link_avoids_every_route_of_the_host() {
        let config = config();
        let chosen = |routes: &[Route]| choose(&config, routes).map(|a| a.host4.to_string());
        assert_eq!(chosen(&[route("0.0.0.0/0")]).unwrap(), "100.127.145.121");
        // The next block, and then another range.
        assert_eq!(chosen(&[route("100.127.145.120/32")]).unwrap(), "100.127.145.125");
        assert!(chosen(&[route("100.64.0.0/10")]).unwrap().starts_with("198.19."));
        let all = ["100.64.0.0/10", "198.18.0.0/15", "10.0.0.0/8", "192.168.0.0/16"].map(route);
        assert_eq!(chosen(&all), None);
    }

    #[test]
    fn a_pool_that_another_interface_has_is_a_conflict() {
        let routes = ["0.0.0.0/0", "172.16.0.0/12", "172.29.0.0/16"].map(route);
        let found = |own| pool_conflict(&config(), &routes, own).map(|r| r.to.to_string());
        assert_eq!(found(1).as_deref(), Some("172.16.0.0/12"));
        assert_eq!(found(7), None);
    }
}
