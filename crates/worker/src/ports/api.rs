//! The port to the API that a guest reaches at `/.fly/api` and `_api.internal`.

use super::AgentIo;
use host_api::GuestListener;
use model::id::MachineId;

/// Serves the API to the processes of one machine.
///
/// The machine is identified by the port that its bytes come from.
pub trait GuestApi: Send + Sync + 'static {
    /// Serves one connection of `machine`, of `app`, in a task of its own; returns at
    /// once. What it may do without a token depends on `listener`. The guest has closed it when reading ends; it is closed for the guest
    /// when `io` is dropped. What the guest sends is hostile and bounded in all.
    fn serve(&self, machine: MachineId, app: &str, listener: GuestListener, io: Box<dyn AgentIo>);
}
