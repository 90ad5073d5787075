//! The port to the host's network.

use super::{Nic, PortError};
use async_trait::async_trait;
use model::address::{Addresses, Slot};
use model::id::NetworkId;

/// What the worker needs of the host's network, and nothing more.
///
/// Every implementation, the fake too, passes `testkit::network_contract`:
/// - `prepare` any number of times is like once, and keeps what runs running;
/// - `attach` of a slot that is attached replaces it;
/// - `detach` of a slot that is not attached succeeds;
/// - after `rest`, `attach` of the same link works and is fast, `list` still names
///   the slot, and a new daemon finds no more of it than it can remove;
/// - `list` names every slot of which anything is left on the host;
/// - after `detach` of all and `remove_all`, nothing of ours is left.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Makes what all machines share (forwarding, tables, masquerading), after
    /// a start of the daemon also while machines of an earlier one run.
    async fn prepare(&self) -> Result<(), PortError>;

    /// Makes a machine's tap with its addresses and pins its source addresses.
    /// Only machines of one `network` reach each other, over 6PN.
    async fn attach(&self, link: Link) -> Result<Nic, PortError>;

    /// Keeps the link of a VM that was adopted: the tap is held by the VM, what
    /// is missing around it (addresses, pins) is made again.
    async fn adopt(&self, link: Link) -> Result<(), PortError>;

    /// The VM of a slot is gone for now: what the next `attach` of the same link
    /// would make again may stay, within bounds. It is never an error.
    async fn rest(&self, slot: Slot);

    /// Removes everything of a slot.
    async fn detach(&self, slot: Slot) -> Result<(), PortError>;

    /// Slots of which anything is on the host.
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
    /// From `model::address::plan`.
    pub addresses: Addresses,
}
