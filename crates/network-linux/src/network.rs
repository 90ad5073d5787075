//! The port's implementation.

use crate::config::NetworkConfig;
use crate::host::Host;
use crate::nft::Nft;
use crate::{ruleset, sysctl};
use async_trait::async_trait;
use model::address::Slot;
use std::sync::Arc;
use worker::ports::{Link, Network, Nic, PortError};

/// [`Network`] on Linux: a routed tap per machine and one nftables table.
///
/// `prepare` turns on forwarding for the network namespace. Before it does so
/// for IPv6, `accept_ra` 1 becomes 2, or a host that has its default route from
/// router advertisements would lose it.
///
/// A tap that rests costs a descriptor and an interface. It is up and has its
/// addresses, but its rules let nothing through: the host's connections to it
/// are reset at once. Its carrier stays on: the kernel takes up to a second to
/// act on a change, and loses the first frames after it.
#[derive(Debug)]
pub struct LinuxNetwork {
    host: Arc<Host>,
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
        Ok(Self { host: Arc::new(Host::open(config)?), nft: Nft::default() })
    }

    /// Waits for `work` on a thread of its own: the kernel lets whoever makes or
    /// removes an interface wait, for tens of milliseconds at times.
    async fn apart<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Host) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let host = self.host.clone();
        let done = tokio::task::spawn_blocking(move || work(&host)).await;
        done.map_err(|err| PortError::new(attempted, err))?
    }
}

#[async_trait]
impl Network for LinuxNetwork {
    async fn prepare(&self) -> Result<(), PortError> {
        sysctl::enable_forwarding()?;
        let config = &self.host.config;
        let attempted = format!("set up table {} in nftables", ruleset::table(config.tag));
        self.nft.apply(&attempted, &ruleset::base(config)).await
    }

    async fn attach(&self, link: Link) -> Result<Nic, PortError> {
        self.apart("attach a tap", move |host| host.attach(link)).await
    }

    async fn adopt(&self, link: Link) -> Result<(), PortError> {
        self.apart("adopt a tap", move |host| host.adopt(link)).await
    }

    async fn rest(&self, slot: Slot) {
        let done = self.apart("let a tap rest", move |host| {
            host.rest(slot)?;
            host.cull()
        });
        if let Err(err) = done.await {
            tracing::warn!(slot = slot.0, error = rt::chain(&err), "remains of a slot");
        }
    }

    async fn detach(&self, slot: Slot) -> Result<(), PortError> {
        self.apart("detach a tap", move |host| host.detach(slot)).await
    }

    async fn list(&self) -> Result<Vec<Slot>, PortError> {
        let slots = self.apart("list taps", Host::list).await?;
        Ok(slots.into_iter().collect())
    }

    async fn remove_all(&self) -> Result<(), PortError> {
        self.apart("remove taps", Host::remove_taps).await?;
        let tag = self.host.config.tag;
        let attempted = format!("remove table {} from nftables", ruleset::table(tag));
        self.nft.apply(&attempted, &ruleset::remove(tag)).await
    }
}
