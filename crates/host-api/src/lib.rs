//! What control, edge and the guests' API ask of a host, and what a host
//! streams to them.
//!
//! One trait per concern: [`Status`], [`Machines`], [`Leases`], [`Memory`], [`Checks`],
//! [`Schedules`], [`Exec`], [`Logs`], [`EventFeed`], [`Secrets`],
//! [`Volumes`], [`Images`], [`Routes`], [`Load`], [`Connections`]; [`Host`] is all of them.
//! `worker` implements it. In one process the call is direct; between processes
//! the crate `host-remote` carries it over HTTP/2 with mutual TLS behind the
//! same traits. Every implementation passes `testkit::host_api_contract`.
//!
//! # What holds of every call
//!
//! - It names its machine by id and carries a [`CallContext`]: who calls, until
//!   when, and the epoch of ownership that the caller acts on. A host that knows
//!   a newer epoch answers [`HostError::StaleEpoch`] and does nothing.
//! - An `Ok` means that the effect is durable on the host.
//! - It may be repeated. A create with an id that exists, and the same content,
//!   answers with the machine that is there; what sets a state (start, stop, destroy,
//!   cordon …) is set again. A restart, an update or a signal is carried out once per
//!   [`CallContext::idempotency_key`], and each time without one. Commands ([`Exec`]) are
//!   never to be repeated.
//! - Dropping the future cancels the wait for the answer, never half of the
//!   effect: the call has happened whole or not at all.
//! - After `CallContext::deadline` the host answers [`HostError::DeadlineExceeded`]
//!   at the latest; the effect of a change may still come about, as after a
//!   lost connection.

mod context;
mod error;
mod images;
mod machines;
mod routing;
mod status;
mod volumes;

pub use context::{CallContext, Caller, Deadline, Source};
pub use error::HostError;
pub use images::{ImageUpload, Images, ImportName};
pub use machines::{
    AcquireLease, AppSecrets, ChangeMetadata, Checks, CreateMachine, EventFeed, EventFilter, Exec,
    ExecError, ExecInput, ExecOutput, ExecSession, ExecStart, FeedEvent, FeedItem, Leases,
    LogFilter, LogLine, Logs, MAX_LABEL_BYTES, MAX_LABELS, MachineFilter, Machines, Memory,
    Schedules, ScopedSecret, Secrets, Stop, UpdateMachine, WaitFor, check_labels,
};
pub use routing::{
    Connections, GuestConnection, GuestListener, GuestStream, HealthStatus, Load, Route,
    RouteChange, RoutePosition, RouteSnapshot, RouteState, RouteSubscription, Routes,
    ServiceHealth, Upstream, WakeRefused,
};
pub use status::{HostInfo, Status};
pub use volumes::{ChangeVolume, HostVolume, NewVolume, VolumeFilter, Volumes};

use model::id::HostId;
use std::sync::Arc;
use tokio::sync::watch;

/// One host: the truth about its machines.
pub trait Host:
    Status
    + Machines
    + Leases
    + Memory
    + Checks
    + Schedules
    + Exec
    + Logs
    + EventFeed
    + Secrets
    + Volumes
    + Images
    + Routes
    + Load
    + Connections
    + 'static
{
}

impl<T> Host for T where
    T: Status
        + Machines
        + Leases
        + Memory
        + Checks
        + Schedules
        + Exec
        + Logs
        + EventFeed
        + Secrets
        + Volumes
        + Images
        + Routes
        + Load
        + Connections
        + 'static
{
}

/// A host with its number.
#[derive(Clone)]
pub struct KnownHost {
    /// Its number in the platform.
    pub id: HostId,
    /// How to call it. A host that cannot be reached answers each call with
    /// [`HostError::Unavailable`].
    pub host: Arc<dyn Host>,
}

impl std::fmt::Debug for KnownHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownHost").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The hosts of the platform, as one process knows them.
pub trait Hosts: Send + Sync + 'static {
    /// All hosts, now and at every change of the list, in order of their numbers.
    fn watch(&self) -> watch::Receiver<Vec<KnownHost>>;

    /// All hosts that are known now.
    fn all(&self) -> Vec<KnownHost> {
        self.watch().borrow().clone()
    }

    /// One host.
    fn get(&self, id: HostId) -> Option<Arc<dyn Host>> {
        let hosts = self.watch();
        let hosts = hosts.borrow();
        hosts.iter().find(|known| known.id == id).map(|known| known.host.clone())
    }
}

/// A list of hosts that does not change.
#[derive(Clone, Debug)]
pub struct FixedHosts(watch::Receiver<Vec<KnownHost>>);

impl FixedHosts {
    /// These hosts, in any order.
    pub fn new(mut hosts: Vec<KnownHost>) -> Self {
        hosts.sort_by_key(|known| known.id);
        // The value outlives its sender; it only never changes again.
        Self(watch::channel(hosts).1)
    }
}

impl Hosts for FixedHosts {
    fn watch(&self) -> watch::Receiver<Vec<KnownHost>> {
        self.0.clone()
    }
}
