//! The port to the hosts that own the machines.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::id::HostId;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use wire::logs::{LogEntry, LogQuery};
use wire::machines::*;
use wire::worker::*;

/// All hosts of the platform.
pub trait Hosts: Send + Sync + 'static {
    /// Every host that is known.
    fn all(&self) -> Vec<(HostId, Arc<dyn Host>)>;

    /// One host.
    fn get(&self, id: HostId) -> Option<Arc<dyn Host>> {
        self.all().into_iter().find(|(host, _)| *host == id).map(|(_, host)| host)
    }
}

/// One host. It is the truth about its machines: an answer means that the
/// intent is durable there. Every call names machines by id; ids of machines
/// that are not here answer [`HostError::NotFound`].
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// What it is and has. Asked for each placement, so it answers at once and
    /// leaves `memory_used_mib` out.
    async fn info(&self) -> Result<HostInfo, HostError>;

    /// The same with what its VMs really use, which takes time to find out.
    async fn info_with_usage(&self) -> Result<HostInfo, HostError>;

    /// What an image reference stands for on this host.
    async fn resolve_image(&self, reference: &str) -> Result<ImageRef, HostError>;

    /// Records and reserves a machine; it is started in the background.
    async fn create(&self, machine: CreateMachine) -> Result<Machine, HostError>;

    /// Replaces the config by a new instance (L008).
    async fn update(&self, update: UpdateMachine) -> Result<Machine, HostError>;

    /// One machine, also a destroyed one as long as it is remembered.
    async fn machine(&self, id: &str) -> Result<Machine, HostError>;

    /// Machines, oldest first.
    async fn machines(&self, filter: MachineFilter) -> Result<Vec<Machine>, HostError>;

    /// Records the wish to run; what is suspended goes on where it stood.
    async fn start(&self, id: &str, source: Source) -> Result<Started, HostError>;

    /// Records the wish to stop; what is suspended loses its memory (L017).
    async fn stop(&self, id: &str, stop: Stop, source: Source) -> Result<(), HostError>;

    /// Records the wish to be suspended: down, with its memory kept (L014).
    /// Only of a machine that runs ([`HostError::Conflict`]).
    async fn suspend(&self, id: &str, source: Source) -> Result<(), HostError>;

    /// Stop and start on this host (L010).
    async fn restart(&self, id: &str, stop: Stop, force: bool) -> Result<(), HostError>;

    /// Sends a signal to the main process.
    async fn signal(&self, id: &str, signal: i32) -> Result<(), HostError>;

    /// Records the wish to be gone; a running machine only with `force`.
    async fn destroy(&self, id: &str, force: bool) -> Result<(), HostError>;

    /// Takes a machine out of routing or back in.
    async fn cordon(&self, id: &str, cordoned: bool) -> Result<(), HostError>;

    /// Changes labels, without a new version (R060). With `version` only if
    /// that is the current instance ([`HostError::Stale`]).
    async fn change_metadata(
        &self,
        id: &str,
        change: ChangeMetadata,
        version: Option<&str>,
    ) -> Result<(), HostError>;

    /// Newest events first, at most `limit`.
    async fn events(&self, id: &str, limit: usize) -> Result<Vec<MachineEvent>, HostError>;

    /// All versions, newest first.
    async fn versions(&self, id: &str) -> Result<Vec<MachineVersion>, HostError>;

    /// Returns once the machine is in one of the states, or
    /// [`HostError::Timeout`]. Pushed, not polled.
    async fn wait(&self, id: &str, wait: WaitFor) -> Result<WaitResult, HostError>;

    /// Processes in the guest.
    async fn processes(&self, id: &str) -> Result<Vec<Process>, HostError>;

    /// Runs a command in the guest. Dropping the session kills the command.
    async fn exec(&self, id: &str, exec: ExecStart) -> Result<ExecSession, HostError>;

    /// Log lines of an app's machines on this host, oldest first.
    async fn logs(
        &self,
        app: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError>;

    /// Imports an image from a tar; progress and result come as a stream that
    /// ends with `Done` or `Failed`.
    async fn import_image(
        &self,
        name: Option<String>,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError>;

    /// Images on this host.
    async fn images(&self) -> Result<Vec<Image>, HostError>;

    /// Removes a name or a digest; false if there is none.
    async fn remove_image(&self, reference: &str) -> Result<bool, HostError>;
}

/// A command that runs in a guest. Both channels are bounded; a slow client
/// slows the command, nothing else.
#[derive(Debug)]
pub struct ExecSession {
    /// To the command.
    pub input: mpsc::Sender<ExecInput>,
    /// From the command; `Exited` or `Failed` is the last.
    pub output: mpsc::Receiver<ExecOutput>,
}
