//! The port to the API that a guest reaches at `/.fly/api`.

use super::AgentIo;
use model::id::MachineId;

/// Serves the API to the processes of one machine.
///
/// The machine is identified by the port that its bytes come from: no token is needed,
/// and nothing beyond what its app may do is to be granted.
pub trait GuestApi: Send + Sync + 'static {
    /// Serves one connection of `machine`, of `app`, in a task of its own; returns at
    /// once. The guest has closed it when reading ends; it is closed for the guest
    /// when `io` is dropped. What the guest sends is hostile and bounded in all.
    fn serve(&self, machine: MachineId, app: &str, io: Box<dyn AgentIo>);
}
