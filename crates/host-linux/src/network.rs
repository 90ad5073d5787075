//! The port's implementation: taps, addresses and rules put together.

use crate::config::NetworkConfig;
use crate::links::{Interface, Links};
use crate::nft::{self, Nft};
use crate::{ruleset, sysctl, tap};
use async_trait::async_trait;
use model::address::Slot;
use std::collections::BTreeSet;
use worker::ports::{Link, Network, Nic, PortError};

/// Top byte of the mark on our flows, so that whoever meets one can tell.
const MARK: u32 = 0x7500_0000;

/// [`Network`] on Linux: a routed tap per machine and one nftables table.
///
/// It keeps no state of its own: the kernel's is asked each time, so nothing
/// can disagree after a crash.
///
/// `prepare` turns on forwarding for the network namespace. Before it does so
/// for IPv6, `accept_ra` 1 becomes 2, or a host that has its default route from
/// router advertisements would lose it.
#[derive(Debug)]
pub struct LinuxNetwork {
    config: NetworkConfig,
    links: Links,
    nft: Nft,
}

impl LinuxNetwork {
    /// The network of one daemon, in the network namespace of the calling
    /// thread. Changes nothing yet. Must be called inside a runtime all of
    /// whose threads are in that namespace.
    ///
    /// # Errors
    /// There is no netlink socket to be had.
    pub fn open(config: NetworkConfig) -> Result<Self, PortError> {
        Ok(Self { config, links: Links::open()?, nft: Nft::default() })
    }

    async fn tap(&self, slot: Slot) -> Result<Option<Interface>, PortError> {
        let name = self.config.tag.tap(slot);
        let index = self.links.index(&name).await?;
        Ok(index.map(|index| Interface { name, index }))
    }

    /// Everything around a tap that exists; any number of times is like once.
    async fn dress(&self, tap: &Interface, link: &Link) -> Result<(), PortError> {
        sysctl::prepare_tap(&tap.name)?;
        self.links.address(tap, &link.addresses).await?;
        // The kernel gives no index twice, so the mark is this tap's alone.
        let mark = MARK | (tap.index & !(0xff << 24));
        let rules = ruleset::machine(&self.config, link, mark);
        self.nft.apply(&format!("add the rules of {}", tap.name), &rules).await?;
        self.links.up(tap, gateway_mac(link.addresses.mac), self.config.mtu).await
    }

    async fn remove_tap(&self, slot: Slot) -> Result<(), PortError> {
        match self.tap(slot).await? {
            Some(tap) => self.links.delete(&tap).await,
            None => Ok(()),
        }
    }

    /// Slots that have rules.
    async fn slots_with_rules(&self) -> Result<BTreeSet<Slot>, PortError> {
        let table = ruleset::table(self.config.tag);
        let chains = nft::chains("inet").await?;
        let ours = chains.iter().filter(|chain| chain["table"] == table.as_str());
        Ok(ours.filter_map(|c| ruleset::slot_of_chain(c["name"].as_str()?)).collect())
    }
}

#[async_trait]
impl Network for LinuxNetwork {
    async fn prepare(&self) -> Result<(), PortError> {
        sysctl::enable_forwarding()?;
        let rules = ruleset::base(&self.config);
        let attempted = format!("set up table {} in nftables", ruleset::table(self.config.tag));
        self.nft.apply(&attempted, &rules).await
    }

    async fn attach(&self, link: Link) -> Result<Nic, PortError> {
        self.remove_tap(link.slot).await?;
        let name = self.config.tag.tap(link.slot);
        let wanted = name.clone();
        let fd = tokio::task::spawn_blocking(move || tap::create(&wanted))
            .await
            .map_err(|err| PortError::new(format!("create tap {name}"), err))??;
        let found = self.tap(link.slot).await?;
        let dressed = match found {
            Some(tap) => self.dress(&tap, &link).await,
            None => Err(PortError::plain(format!("create tap {name}: somebody removed it"))),
        };
        if let Err(err) = dressed {
            drop(fd);
            if let Err(also) = self.detach(link.slot).await {
                tracing::warn!(tap = name, error = rt::chain(&also), "remains of a failed attach");
            }
            return Err(err);
        }
        Ok(Nic { tap: fd, mac: link.addresses.mac })
    }

    async fn adopt(&self, link: Link) -> Result<(), PortError> {
        let Some(tap) = self.tap(link.slot).await? else {
            let name = self.config.tag.tap(link.slot);
            return Err(PortError::plain(format!("adopt tap {name}: no VM holds it any more")));
        };
        self.dress(&tap, &link).await
    }

    async fn rest(&self, slot: Slot) {
        let _ = self.detach(slot).await;
    }

    async fn detach(&self, slot: Slot) -> Result<(), PortError> {
        self.remove_tap(slot).await?;
        let tag = self.config.tag;
        let attempted = format!("remove the rules of {}", tag.tap(slot));
        let Err(err) = self.nft.apply(&attempted, &ruleset::forget(tag, slot)).await else {
            return Ok(());
        };
        // It fails if something is missing, which is all there is to it if
        // everything is missing.
        if !self.slots_with_rules().await?.contains(&slot) {
            return Ok(());
        }
        tracing::warn!(slot = slot.0, error = rt::chain(&err), "removing rules one by one");
        self.nft.apply(&attempted, &ruleset::forget_partial(tag, slot)).await
    }

    async fn list(&self) -> Result<Vec<Slot>, PortError> {
        let mut slots = self.slots_with_rules().await?;
        let taps = self.links.with_prefix(&self.config.tag.tap_prefix()).await?;
        slots.extend(taps.iter().filter_map(|tap| self.config.tag.slot_of(&tap.name)));
        Ok(slots.into_iter().collect())
    }

    async fn remove_all(&self) -> Result<(), PortError> {
        for tap in self.links.with_prefix(&self.config.tag.tap_prefix()).await? {
            if self.config.tag.slot_of(&tap.name).is_some() {
                self.links.delete(&tap).await?;
            }
        }
        let table = ruleset::table(self.config.tag);
        let script = ruleset::remove(self.config.tag);
        self.nft.apply(&format!("remove table {table} from nftables"), &script).await
    }
}

/// The host's end of a tap: the guest's address with one more bit. The same
/// over attachments, since a guest that was suspended still remembers it.
fn gateway_mac(guest: [u8; 6]) -> [u8; 6] {
    let mut mac = guest;
    mac[0] |= 0x04;
    mac
}
