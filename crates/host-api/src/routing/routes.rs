//! Routes: what a host streams to the edges about its machines.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::{AppId, AppName, BootId, Epoch, HostId, InstanceId, MachineId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use wire::machines::Service;

/// The table of a host's machines for the edges, and its changes.
#[async_trait]
pub trait Routes: Send + Sync {
    /// The table as of now and every later change.
    async fn routes(&self, context: CallContext) -> Result<RouteSubscription, HostError>;
}

/// A place in the history of one host's table.
///
/// `epoch` grows with each start of the host's worker, `generation` with each
/// change since. Positions of one host are ordered by (epoch, generation): a
/// stream with an older position than one already seen is stale and is ignored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RoutePosition {
    /// The host.
    pub host: HostId,
    /// Which start of its worker.
    pub epoch: u64,
    /// Which change since.
    pub generation: u64,
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct RouteSubscription {
    /// The table when the subscription began.
    pub snapshot: RouteSnapshot,
    /// Later changes with their generations, without gaps. A closed channel or
    /// a gap means: subscribe again.
    pub changes: mpsc::Receiver<(u64, RouteChange)>,
    /// Generations that the subscriber has applied: it routes by them from now
    /// on. The host waits, for a bounded time, until a stopping machine's last
    /// change is acknowledged before it counts on getting no new requests.
    pub acknowledge: mpsc::Sender<u64>,
}

/// The table of one host as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// The last change that is part of it.
    pub position: RoutePosition,
    /// One per machine.
    pub routes: Vec<Route>,
}

/// One change of a host's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteChange {
    /// A machine is new or changed.
    Upsert(Box<Route>),
    /// The host has the machine no longer.
    Remove {
        /// Its id.
        machine: MachineId,
    },
}

/// The edge's view of one machine. Sent whole at every change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// App.
    pub app: AppId,
    /// Name of the app, by which requests find it.
    pub app_name: AppName,
    /// Machine id.
    pub machine: MachineId,
    /// Ownership under which the host has it: of two hosts that both claim the
    /// machine the one with the larger epoch is right.
    pub epoch: Epoch,
    /// Region code of its host.
    pub region: String,
    /// Version of its config.
    pub instance: InstanceId,
    /// The run of its VM that `listening` is true of; `None` while there is no
    /// VM. An upstream connection belongs to one boot of one machine.
    pub boot: Option<BootId>,
    /// What it does.
    pub state: RouteState,
    /// Ports that its app listens on, pushed by the guest. Empty unless started.
    pub listening: Vec<u16>,
    /// Not routed to and not woken.
    pub cordoned: bool,
    /// `services` of its config.
    pub services: Vec<Service>,
    /// `disable_machine_autostart` of its config: services that do not set
    /// otherwise are not woken by requests.
    pub disable_autostart: bool,
    /// `env.PRIMARY_REGION` of its config.
    pub primary_region: Option<String>,
    /// Why the last start failed, in words, if it is stopped because of that.
    pub last_failure: Option<String>,
    /// Its memory is kept: it wakes faster than one that is stopped.
    pub suspended: bool,
    /// When it was last started, milliseconds since the epoch; 0 if never.
    pub started_ms: u64,
    /// Milliseconds by stage of the start that made it `Started`, in order.
    pub stages_ms: Vec<(String, f64)>,
    /// Health of the ports that readiness checks cover; a port that is not listed has none.
    #[serde(default)]
    pub health: Vec<ServiceHealth>,
}

/// Health of one port of a machine's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Internal port.
    pub port: u16,
    /// As its readiness checks see it.
    pub status: HealthStatus,
}

/// Health of a port, as its readiness checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All pass.
    Passing,
    /// None fails; one has no verdict since the machine started.
    Unproven,
    /// One fails: no requests.
    Failing,
}

/// What a machine does, as far as routing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// Neither runs nor can be woken: being created, failed, destroyed, or an idle standby.
    Unavailable,
    /// Can be woken.
    Asleep,
    /// On its way up.
    Starting,
    /// Runs; requests go to it once its port listens.
    Started,
    /// On its way down; a wake starts it again once it is down.
    Stopping,
}
