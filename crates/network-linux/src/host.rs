//! A host's taps, addresses and rules put together, on threads that may wait.

use crate::config::NetworkConfig;
use crate::kept::{Kept, Places, lock};
use crate::links::{Interface, Links};
use crate::netfilter::Netfilter;
use crate::{machine, ruleset, sysctl, tap};
use model::address::Slot;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use worker::ports::{Link, Nic, PortError};

/// Top byte of the mark on our flows, so that whoever meets one can tell.
const MARK: u32 = 0x7500_0000;

/// The host as one daemon sees it. Whether something is there is asked of the
/// kernel each time, so nothing can disagree after a crash; what is kept are
/// descriptors, and with them the taps.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: NetworkConfig,
    links: Links,
    netfilter: Netfilter,
    places: Places,
}

impl Host {
    pub(crate) fn open(config: NetworkConfig) -> Result<Self, PortError> {
        let (links, netfilter) = (Links::open()?, Netfilter::open()?);
        Ok(Self { config, links, netfilter, places: Places::default() })
    }

    pub(crate) fn attach(&self, link: Link) -> Result<Nic, PortError> {
        let place = self.places.of(link.slot);
        let mut place = lock(&place);
        self.places.stirs(link.slot);
        if let Some(kept) = place.as_mut().filter(|kept| kept.rests && kept.link == link) {
            match self.wake(kept) {
                Ok(tap) => return Ok(Nic { tap, mac: link.addresses.mac }),
                Err(err) => {
                    let tap = self.config.tag.tap(link.slot);
                    tracing::warn!(tap, error = %err, "a resting tap is made anew");
                }
            }
        }
        self.remove_tap(link.slot, place.take())?;
        match self.make(link) {
            Ok((kept, copy)) => {
                *place = Some(kept);
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

    pub(crate) fn adopt(&self, link: Link) -> Result<(), PortError> {
        let place = self.places.of(link.slot);
        let mut place = lock(&place);
        let name = self.config.tag.tap(link.slot);
        let tap = self.links.find(&name)?.filter(|_| !place.as_ref().is_some_and(|k| k.rests));
        let Some(tap) = tap else {
            return Err(PortError::plain(format!("adopt tap {name}: no VM holds it any more")));
        };
        if let Some(kept) = place.as_mut() {
            kept.link = link;
        }
        self.dress(&tap, &link)
    }

    /// Lets the tap of a slot rest if this daemon keeps it and there is nothing
    /// wrong with it, else removes it.
    pub(crate) fn rest(&self, slot: Slot) -> Result<(), PortError> {
        let place = self.places.of(slot);
        let mut place = lock(&place);
        let Some(kept) = place.as_mut().filter(|kept| !kept.rests) else {
            return if place.is_some() { Ok(()) } else { self.clear(slot, None) };
        };
        if let Err(err) = self.lay_down(kept) {
            tracing::warn!(slot = slot.0, error = %err, "a tap that cannot rest is removed");
            return self.clear(slot, place.take());
        }
        kept.rests = true;
        self.places.rests(slot);
        Ok(())
    }

    /// Removes the longest resting taps if there are too many.
    pub(crate) fn cull(&self) -> Result<(), PortError> {
        while let Some(slot) = self.places.surplus(self.config.max_resting) {
            let place = self.places.of(slot);
            let mut place = lock(&place);
            // It may have been attached meanwhile.
            if place.as_ref().is_some_and(|kept| kept.rests) {
                self.clear(slot, place.take())?;
            }
        }
        Ok(())
    }

    pub(crate) fn detach(&self, slot: Slot) -> Result<(), PortError> {
        let place = self.places.of(slot);
        let mut place = lock(&place);
        self.places.stirs(slot);
        self.clear(slot, place.take())
    }

    pub(crate) fn list(&self) -> Result<BTreeSet<Slot>, PortError> {
        let mut slots = self.slots_with_rules()?;
        slots.extend(self.slots_with_taps()?);
        Ok(slots)
    }

    /// Removes all taps, but no rules.
    pub(crate) fn remove_taps(&self) -> Result<(), PortError> {
        let slots: BTreeSet<_> =
            self.slots_with_taps()?.into_iter().chain(self.places.all()).collect();
        for slot in slots {
            let place = self.places.of(slot);
            let mut place = lock(&place);
            self.places.stirs(slot);
            self.remove_tap(slot, place.take())?;
        }
        Ok(())
    }

    /// Makes a tap; the copy is the VM's.
    fn make(&self, link: Link) -> Result<(Kept, OwnedFd), PortError> {
        let name = self.config.tag.tap(link.slot);
        let tap = tap::create(&name)?;
        let Some(interface) = self.links.find(&name)? else {
            return Err(PortError::plain(format!("create tap {name}: somebody removed it")));
        };
        self.dress(&interface, &link)?;
        let copy =
            tap.try_clone().map_err(|err| PortError::new(format!("share tap {name}"), err))?;
        Ok((Kept { tap, index: interface.index, link, rests: false }, copy))
    }

    /// Everything around a tap that exists; any number of times is like once.
    fn dress(&self, tap: &Interface, link: &Link) -> Result<(), PortError> {
        sysctl::prepare_tap(&tap.name)?;
        let rules = machine::add(&self.config, link, mark(tap.index));
        self.netfilter
            .apply(rules)
            .map_err(|err| PortError::new(format!("add the rules of {}", tap.name), err))?;
        let mac = gateway_mac(link.addresses.mac);
        self.links.bring_up(tap, &link.addresses, mac, self.config.mtu)
    }

    /// No VM has the tap any more: makes it as new, and deaf.
    fn lay_down(&self, kept: &Kept) -> io::Result<()> {
        let mark = mark(kept.index);
        self.netfilter.apply(machine::rest(&self.config, &kept.link, mark))?;
        // Flows of the VM that is gone would count against the next one's share.
        self.netfilter.forget_flows(mark)?;
        tap::renew(&kept.tap, gateway_mac(kept.link.addresses.mac))?;
        tap::drain(&kept.tap)
    }

    /// The end of [`Host::lay_down`].
    fn wake(&self, kept: &mut Kept) -> io::Result<OwnedFd> {
        let name = self.config.tag.tap(kept.link.slot);
        let there = self.links.find(&name).map_err(io::Error::other)?;
        if there.map(|tap| tap.index) != Some(kept.index) {
            return Err(io::Error::other("it is another interface"));
        }
        tap::drain(&kept.tap)?;
        let copy = kept.tap.try_clone()?;
        self.netfilter.apply(machine::wake(self.config.tag, kept.link.slot))?;
        kept.rests = false;
        Ok(copy)
    }

    /// Removes everything of a slot.
    fn clear(&self, slot: Slot, kept: Option<Kept>) -> Result<(), PortError> {
        self.remove_tap(slot, kept)?;
        let tag = self.config.tag;
        match self.netfilter.apply(machine::forget(tag, slot)) {
            // It fails if the whole table is missing, which is all there is to it.
            Err(err) if self.slots_with_rules()?.contains(&slot) => {
                Err(PortError::new(format!("remove the rules of {}", tag.tap(slot)), err))
            }
            _ => Ok(()),
        }
    }

    fn remove_tap(&self, slot: Slot, kept: Option<Kept>) -> Result<(), PortError> {
        // With the last descriptor the tap goes.
        drop(kept);
        match self.links.find(&self.config.tag.tap(slot))? {
            Some(tap) => self.links.delete(&tap),
            None => Ok(()),
        }
    }

    fn slots_with_rules(&self) -> Result<BTreeSet<Slot>, PortError> {
        let table = ruleset::table(self.config.tag);
        let chains = self.netfilter.chains(&table);
        let chains = chains.map_err(|err| PortError::new("list the chains of nftables", err))?;
        Ok(chains.iter().filter_map(|chain| ruleset::slot_of_chain(chain)).collect())
    }

    fn slots_with_taps(&self) -> Result<BTreeSet<Slot>, PortError> {
        let names = self.links.names()?;
        Ok(names.iter().filter_map(|name| self.config.tag.slot_of(name)).collect())
    }
}

/// The kernel gives no index twice, so the mark is this tap's alone.
fn mark(index: u32) -> u32 {
    MARK | (index & !(0xff << 24))
}

/// The host's end of a tap: the guest's address with one more bit. The same
/// over attachments, since a guest that was suspended still remembers it.
fn gateway_mac(guest: [u8; 6]) -> [u8; 6] {
    let mut mac = guest;
    mac[0] |= 0x04;
    mac
}
