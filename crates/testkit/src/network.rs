//! A network that is a table.

use crate::CrashPoints;
use async_trait::async_trait;
use model::address::Slot;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use worker::ports::{Link, Network, Nic, PortError};

/// A host's network: slots with their links, and whether it is prepared.
#[derive(Clone, Debug, Default)]
pub struct FakeNetwork {
    host: Arc<Mutex<Host>>,
    points: CrashPoints,
}

#[derive(Debug, Default)]
struct Host {
    prepared: bool,
    /// Name servers that guests may reach.
    name_servers: Vec<IpAddr>,
    links: BTreeMap<Slot, Tap>,
}

#[derive(Clone, Copy, Debug)]
struct Tap {
    link: Link,
    /// No VM has it.
    parked: bool,
}

impl FakeNetwork {
    /// A network whose calls pass `points`.
    pub fn new(points: CrashPoints) -> Self {
        Self { host: Arc::default(), points }
    }

    /// Name servers that guests may reach.
    pub fn name_servers(&self) -> Vec<IpAddr> {
        self.lock().name_servers.clone()
    }

    /// Slots that have a tap.
    pub fn slots(&self) -> Vec<Slot> {
        self.lock().links.keys().copied().collect()
    }

    /// Slots whose taps are parked.
    pub fn parked(&self) -> Vec<Slot> {
        let host = self.lock();
        host.links.iter().filter(|(_, tap)| tap.parked).map(|(slot, _)| *slot).collect()
    }

    /// The card behind the link that has this private address, if a VM has the link.
    pub fn mac_at(&self, address: Ipv4Addr) -> Option<[u8; 6]> {
        let host = self.lock();
        let mut attached = host.links.values().filter(|tap| !tap.parked);
        let tap = attached.find(|tap| tap.link.addresses.ipv4 == address);
        tap.map(|tap| tap.link.addresses.mac)
    }

    /// The host loses power: nothing of the network is left.
    pub fn power_cut(&self) {
        *self.lock() = Host::default();
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_prepared(&self) -> Result<(), PortError> {
        let prepared = self.lock().prepared;
        if prepared { Ok(()) } else { Err(PortError::plain("the network is not prepared")) }
    }
}

#[async_trait]
impl Network for FakeNetwork {
    async fn prepare(&self) -> Result<(), PortError> {
        self.points.pass("network: before prepare").await;
        self.lock().prepared = true;
        self.points.pass("network: after prepare").await;
        Ok(())
    }

    async fn open_name_servers(&self, servers: &[IpAddr]) -> Result<(), PortError> {
        self.check_prepared()?;
        let mut host = self.lock();
        for server in servers {
            if !host.name_servers.contains(server) {
                host.name_servers.push(*server);
            }
        }
        Ok(())
    }

    async fn attach(&self, link: Link) -> Result<Nic, PortError> {
        self.points.pass("network: before attach").await;
        self.check_prepared()?;
        self.lock().links.insert(link.slot, Tap { link, parked: false });
        self.points.pass("network: after attach").await;
        let open = std::fs::File::open("/dev/null");
        let tap = open.map_err(|err| PortError::new("open a tap", err))?;
        Ok(Nic { tap: tap.into(), mac: link.addresses.mac })
    }

    async fn adopt(&self, link: Link) -> Result<(), PortError> {
        self.points.pass("network: before adopt").await;
        self.check_prepared()?;
        let known = self.lock().links.get(&link.slot).copied();
        match known {
            Some(tap) if tap.parked => return Err(PortError::plain("no VM holds the tap")),
            Some(tap) if tap.link == link => {}
            Some(_) => return Err(PortError::plain("the slot belongs to another link")),
            None => return Err(PortError::plain("the tap is gone")),
        }
        self.points.pass("network: after adopt").await;
        Ok(())
    }

    async fn park(&self, slot: Slot) {
        self.points.pass("network: before park").await;
        self.lock().links.entry(slot).and_modify(|tap| tap.parked = true);
        self.points.pass("network: after park").await;
    }

    async fn detach(&self, slot: Slot) -> Result<(), PortError> {
        self.points.pass("network: before detach").await;
        self.lock().links.remove(&slot);
        self.points.pass("network: after detach").await;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Slot>, PortError> {
        self.points.pass("network: before list").await;
        Ok(self.slots())
    }

    async fn remove_all(&self) -> Result<(), PortError> {
        self.power_cut();
        Ok(())
    }
}
