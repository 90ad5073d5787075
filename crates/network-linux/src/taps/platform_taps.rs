//! The taps of one platform with their addresses and rules. All calls block, and
//! are made on threads inside the platform's namespace.

use super::slots::{Slots, Tap, lock};
use crate::config::NetworkConfig;
use crate::interface::{Interface, Links, sysctl, tap};
use crate::nftables::base::{self, FlowLimits, HostNetworks};
use crate::nftables::{Netfilter, machine};
use model::address::Slot;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use worker::ports::{Link, Nic, PortError};

/// Top byte of the marks on our flows.
const MARK: u32 = 0x7500_0000;
/// Bounds of the flows that one guest may have.
const FLOWS: (u32, u32) = (256, 8192);
/// Flows that all guests together may always have.
const MIN_FLOWS_OF_ALL: u32 = 4096;
/// Name servers of before that stay open to the guests that are configured with them.
const EARLIER_NAME_SERVERS: usize = 8;
/// Shares of the connection table that one guest and all guests may fill.
const TABLE_SHARE: u32 = 64;
const TABLE_SHARE_OF_ALL: u32 = 2;

/// The taps of one platform. Whether something exists is asked of the kernel
/// each time, so nothing can disagree after a crash; only descriptors are kept,
/// and with them the taps.
#[derive(Debug)]
pub(crate) struct Taps {
    config: NetworkConfig,
    links: Links,
    netfilter: Netfilter,
    slots: Slots,
    host: Mutex<HostNetworks>,
    /// Name servers that are open to guests, the newest last.
    name_servers: Mutex<Vec<IpAddr>>,
}

impl Taps {
    /// Opens sockets in the namespace of the calling thread.
    pub(crate) fn open(config: NetworkConfig) -> Result<Self, PortError> {
        let (links, netfilter) = (Links::open()?, Netfilter::open()?);
        let (slots, host) = Default::default();
        let name_servers = Mutex::new(config.nameservers.clone());
        Ok(Self { config, links, netfilter, slots, host, name_servers })
    }

    /// The interfaces of the namespace.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Settings and rules that all machines share.
    pub(crate) fn prepare(&self, host: HostNetworks) -> Result<(), PortError> {
        if let Some(loopback) = self.links.find("lo")? {
            self.links.bring_up_only(&loopback)?;
        }
        // The rules first: without them, forwarding would be open.
        *lock(&self.host) = host;
        self.create_base()?;
        sysctl::enable_forwarding_inside()
    }

    fn create_base(&self) -> Result<(), PortError> {
        self.create_base_with(&lock(&self.name_servers))
    }

    fn create_base_with(&self, name_servers: &[IpAddr]) -> Result<(), PortError> {
        let host = lock(&self.host).clone();
        let table = base::table(self.config.tag);
        let created = self.netfilter.apply(base::create(&self.config, name_servers, &host));
        created.map_err(|err| PortError::new(format!("create table {table} in nftables"), err))
    }

    /// Whether guests may reach these name servers already.
    pub(crate) fn name_servers_are_open(&self, servers: &[IpAddr]) -> bool {
        let open = lock(&self.name_servers);
        servers.iter().all(|server| open.contains(server))
    }

    /// Opens name servers to guests, beside the newest of those that are open.
    pub(crate) fn open_name_servers(&self, servers: &[IpAddr]) -> Result<(), PortError> {
        let mut open = lock(&self.name_servers);
        let mut now: Vec<IpAddr> =
            open.iter().copied().filter(|open| !servers.contains(open)).collect();
        now.drain(..now.len().saturating_sub(EARLIER_NAME_SERVERS));
        now.extend(servers);
        if now.len() == open.len() && now.iter().all(|server| open.contains(server)) {
            return Ok(());
        }
        self.create_base_with(&now)?;
        *open = now;
        Ok(())
    }

    /// Closes the host's addresses and networks to guests. Returns whether they
    /// had changed.
    pub(crate) fn set_host_networks(&self, host: HostNetworks) -> Result<bool, PortError> {
        let mut current = lock(&self.host);
        if *current == host {
            return Ok(false);
        }
        let applied = self.netfilter.apply(base::host_networks(self.config.tag, &host));
        applied.map_err(|err| PortError::new("close the host's networks to guests", err))?;
        *current = host;
        Ok(true)
    }

    /// Restores rules that are missing. Returns whether any were.
    pub(crate) fn restore_rules(&self) -> Result<bool, PortError> {
        let chains: BTreeSet<_> = self.chains()?.into_iter().collect();
        let mut restored = false;
        if !base::shared_chains().all(|name| chains.contains(name)) {
            self.create_base()?;
            restored = true;
        }
        let slots: BTreeSet<_> =
            chains.iter().filter_map(|chain| base::slot_of_chain(chain)).collect();
        let missing = self.slots.active().into_iter().filter(|link| !slots.contains(&link.slot));
        for link in missing {
            restored |= self.restore_machine(link)?;
        }
        Ok(restored)
    }

    /// Restores the rules of a machine, unless it is being attached or detached.
    fn restore_machine(&self, link: Link) -> Result<bool, PortError> {
        let entry = self.slots.entry(link.slot);
        let _guard = lock(&entry);
        if !self.slots.is_active(&link) || self.slots_with_rules()?.contains(&link.slot) {
            return Ok(false);
        }
        let Some(tap) = self.links.find(&self.config.tag.tap(link.slot))? else {
            return Ok(false);
        };
        self.configure(&tap, &link).map(|()| true)
    }

    pub(crate) fn attach(&self, link: Link) -> Result<Nic, PortError> {
        let entry = self.slots.entry(link.slot);
        let mut entry = lock(&entry);
        self.slots.set_active(link);
        if let Some(tap) = entry.as_mut().filter(|tap| tap.parked && tap.link == link) {
            match self.unpark(tap) {
                Ok(tap) => return Ok(Nic { tap, mac: link.addresses.mac }),
                Err(err) => {
                    let tap = self.config.tag.tap(link.slot);
                    tracing::warn!(tap, error = %err, "a parked tap is recreated");
                }
            }
        }
        let created = self
            .remove_tap(link.slot, entry.take())
            .and_then(|()| self.create(link).or_else(|err| self.create_after_flush(link, err)));
        match created {
            Ok((tap, copy)) => {
                *entry = Some(tap);
                Ok(Nic { tap: copy, mac: link.addresses.mac })
            }
            Err(err) => {
                if let Err(also) = self.clear(link.slot, None) {
                    let (slot, error) = (link.slot.0, rt::chain(&also));
                    tracing::warn!(slot, error, "remains of a failed attach");
                }
                Err(err)
            }
        }
    }

    /// Takes over the tap of a VM of an earlier daemon.
    pub(crate) fn adopt(&self, link: Link) -> Result<(), PortError> {
        let entry = self.slots.entry(link.slot);
        let mut entry = lock(&entry);
        let name = self.config.tag.tap(link.slot);
        let parked = entry.as_ref().is_some_and(|tap| tap.parked);
        let Some(tap) = self.links.find(&name)?.filter(|_| !parked) else {
            return Err(PortError::plain(format!("adopt tap {name}: no VM has it open any more")));
        };
        if let Some(tap) = entry.as_mut() {
            tap.link = link;
        }
        self.slots.set_active(link);
        self.configure(&tap, &link)
    }

    /// Parks the tap of a slot if this daemon has it open and it can be reset;
    /// else removes it.
    pub(crate) fn park(&self, slot: Slot) -> Result<(), PortError> {
        let entry = self.slots.entry(slot);
        let mut entry = lock(&entry);
        let Some(tap) = entry.as_mut().filter(|tap| !tap.parked) else {
            return if entry.is_some() { Ok(()) } else { self.clear(slot, None) };
        };
        if let Err(err) = self.reset(tap) {
            tracing::warn!(slot = slot.0, error = %err, "a tap that cannot be parked is removed");
            return self.clear(slot, entry.take());
        }
        tap.parked = true;
        self.slots.set_parked(slot);
        Ok(())
    }

    /// Removes the taps that are parked for the longest time if there are too many.
    pub(crate) fn evict(&self) -> Result<(), PortError> {
        while let Some(slot) = self.slots.evict(self.config.max_parked) {
            let entry = self.slots.entry(slot);
            let mut entry = lock(&entry);
            // It may have been attached meanwhile.
            if entry.as_ref().is_some_and(|tap| tap.parked) {
                self.clear(slot, entry.take())?;
            }
        }
        Ok(())
    }

    pub(crate) fn detach(&self, slot: Slot) -> Result<(), PortError> {
        let entry = self.slots.entry(slot);
        let mut entry = lock(&entry);
        self.clear(slot, entry.take())
    }

    pub(crate) fn list(&self) -> Result<BTreeSet<Slot>, PortError> {
        let mut slots = self.slots_with_rules()?;
        slots.extend(self.slots_with_taps()?);
        Ok(slots)
    }

    /// Removes all taps, but no rules.
    pub(crate) fn remove_taps(&self) -> Result<(), PortError> {
        let slots: BTreeSet<_> =
            self.slots_with_taps()?.into_iter().chain(self.slots.all()).collect();
        for slot in slots {
            let entry = self.slots.entry(slot);
            let mut entry = lock(&entry);
            self.slots.set_free(slot);
            self.remove_tap(slot, entry.take())?;
        }
        Ok(())
    }

    /// Creates a tap; the second descriptor is for the VM.
    fn create(&self, link: Link) -> Result<(Tap, OwnedFd), PortError> {
        let name = self.config.tag.tap(link.slot);
        let fd = tap::create(&name)?;
        let Some(interface) = self.links.find(&name)? else {
            return Err(PortError::plain(format!("create tap {name}: it was removed meanwhile")));
        };
        self.configure(&interface, &link)?;
        let copy =
            fd.try_clone().map_err(|err| PortError::new(format!("share tap {name}"), err))?;
        Ok((Tap { fd, index: interface.index, link, parked: false }, copy))
    }

    /// Tries once more if the shared rules are missing, after they are restored.
    fn create_after_flush(&self, link: Link, err: PortError) -> Result<(Tap, OwnedFd), PortError> {
        let chains: BTreeSet<_> = self.chains()?.into_iter().collect();
        if base::shared_chains().all(|name| chains.contains(name)) {
            return Err(err);
        }
        tracing::warn!("nftables rules in the platform's namespace were removed; restoring them");
        self.create_base()?;
        self.create(link)
    }

    /// Sets addresses and rules of a tap that exists. Idempotent.
    fn configure(&self, tap: &Interface, link: &Link) -> Result<(), PortError> {
        sysctl::configure_tap(&tap.name)?;
        let rules = machine::add(&self.config, link, mark(tap.index), self.flow_limits());
        self.netfilter
            .apply(rules)
            .map_err(|err| PortError::new(format!("add the rules of {}", tap.name), err))?;
        let mac = gateway_mac(link.addresses.mac);
        self.links.bring_up(tap, &link.addresses, mac, self.config.mtu)
    }

    /// Resets a tap that no VM uses and drops its inbound traffic.
    fn reset(&self, tap: &Tap) -> io::Result<()> {
        let mark = mark(tap.index);
        let rules = machine::park(&self.config, &tap.link, mark, self.flow_limits());
        self.netfilter.apply(rules)?;
        // Flows of the last VM would count against the share of the next.
        self.netfilter.delete_flows(mark)?;
        tap::reset(&tap.fd, gateway_mac(tap.link.addresses.mac))?;
        tap::drain(&tap.fd)
    }

    /// Makes a parked tap ready for a VM.
    fn unpark(&self, tap: &mut Tap) -> io::Result<OwnedFd> {
        let name = self.config.tag.tap(tap.link.slot);
        let found = self.links.find(&name).map_err(io::Error::other)?;
        if found.map(|found| found.index) != Some(tap.index) {
            return Err(io::Error::other("another interface has its name"));
        }
        tap::drain(&tap.fd)?;
        let copy = tap.fd.try_clone()?;
        self.netfilter.apply(machine::unpark(self.config.tag, tap.link.slot))?;
        tap.parked = false;
        Ok(copy)
    }

    fn flow_limits(&self) -> FlowLimits {
        // Without the file the kernel has no connection tracking yet.
        let table = sysctl::conntrack_max().unwrap_or(0);
        let of_one = (table / TABLE_SHARE).clamp(FLOWS.0, FLOWS.1);
        let of_all = (table / TABLE_SHARE_OF_ALL).max(MIN_FLOWS_OF_ALL);
        FlowLimits {
            of_one: self.config.max_flows.unwrap_or(of_one),
            of_all: self.config.max_flows_of_all.unwrap_or(of_all),
        }
    }

    /// Removes everything of a slot.
    fn clear(&self, slot: Slot, tap: Option<Tap>) -> Result<(), PortError> {
        self.slots.set_free(slot);
        self.remove_tap(slot, tap)?;
        let tag = self.config.tag;
        match self.netfilter.apply(machine::remove(tag, slot)) {
            // It fails if the whole table is missing: then nothing is left.
            Err(err) if self.slots_with_rules()?.contains(&slot) => {
                Err(PortError::new(format!("remove the rules of {}", tag.tap(slot)), err))
            }
            _ => Ok(()),
        }
    }

    fn remove_tap(&self, slot: Slot, tap: Option<Tap>) -> Result<(), PortError> {
        // Closing the last descriptor removes the interface.
        drop(tap);
        let Some(tap) = self.links.find(&self.config.tag.tap(slot))? else { return Ok(()) };
        self.links.delete(&tap)?;
        // A tap that was moved in may have an index that the kernel uses again.
        let deleted = self.netfilter.delete_flows(mark(tap.index));
        deleted.map_err(|err| PortError::new(format!("delete the flows of {}", tap.name), err))
    }

    fn chains(&self) -> Result<Vec<String>, PortError> {
        let chains = self.netfilter.chains(&base::table(self.config.tag));
        chains.map_err(|err| PortError::new("list the chains of nftables", err))
    }

    fn slots_with_rules(&self) -> Result<BTreeSet<Slot>, PortError> {
        Ok(self.chains()?.iter().filter_map(|chain| base::slot_of_chain(chain)).collect())
    }

    fn slots_with_taps(&self) -> Result<BTreeSet<Slot>, PortError> {
        let names = self.links.names()?;
        Ok(names.iter().filter_map(|name| self.config.tag.slot_of(name)).collect())
    }
}

/// The kernel counts indexes of interfaces up, so the mark is this tap's alone;
/// flows of a tap that was moved in are deleted with it.
fn mark(index: u32) -> u32 {
    MARK | (index & !(0xff << 24))
}

/// MAC address of the gateway on a tap: the guest's with one more bit. It is the
/// same over attachments, since a suspended guest still has it in its cache.
fn gateway_mac(guest: [u8; 6]) -> [u8; 6] {
    let mut mac = guest;
    mac[0] |= 0x04;
    mac
}
