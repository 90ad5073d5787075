//! The port to the host's network.

use super::{Nic, PortError};
use async_trait::async_trait;
use model::address::{Addresses, Slot};
use model::id::NetworkId;
use std::net::IpAddr;

/// The host's network, as far as the worker needs it.
///
/// Every implementation, the fake too, passes `testkit::network_contract`:
/// - `prepare` any number of times is like once, and keeps what runs running;
/// - `attach` of a slot that is attached replaces it;
/// - `detach` of a slot that is not attached succeeds;
/// - after `park`, `attach` of the same link works and is fast, `list` still names
///   the slot, and a new daemon can remove what it finds of it;
/// - a slot may stay unused for any time after `detach`, and be used again with
///   another link: nothing of the earlier one reaches the later;
/// - `list` names every slot that has a tap or rules on the host, also of an
///   earlier version;
/// - after `detach` of all and `remove_all`, nothing of the platform is left.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Sets up what all machines share (namespace, forwarding, tables,
    /// masquerading), also while VMs of an earlier daemon run. The taps of VMs of
    /// an earlier version are brought to where this version has them; they work
    /// again after `adopt`.
    async fn prepare(&self) -> Result<(), PortError>;

    /// Lets guests reach port 53 of these name servers, from now on. Those that were open
    /// before stay so within bounds, since guests that run are configured with them.
    /// Called at each start of a machine: without a change it is cheap.
    async fn open_name_servers(&self, servers: &[IpAddr]) -> Result<(), PortError>;

    /// Creates a machine's tap with its addresses and pins its source addresses.
    /// Only machines of one `network` reach each other, over 6PN.
    async fn attach(&self, link: Link) -> Result<Nic, PortError>;

    /// Takes over the link of a VM of an earlier daemon: the VM has the tap open;
    /// addresses and rules that are missing are set again.
    async fn adopt(&self, link: Link) -> Result<(), PortError>;

    /// The VM of a slot has ended: within bounds, the tap may be kept for the next
    /// `attach` of the same link. Errors are logged.
    async fn park(&self, slot: Slot);

    /// Removes everything of a slot.
    async fn detach(&self, slot: Slot) -> Result<(), PortError>;

    /// Slots that have a tap or rules on the host.
    async fn list(&self) -> Result<Vec<Slot>, PortError>;

    /// Removes everything, for `updraft down`.
    async fn remove_all(&self) -> Result<(), PortError>;
}

/// One machine's link to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Names the tap.
    pub slot: Slot,
    /// 6PN network.
    pub network: NetworkId,
    /// From `model::address::of_machine`.
    pub addresses: Addresses,
}
