//! One machine behind one outside port, as a request sees it.

use crate::admission::machine::Machine;
use crate::admission::permit::Permit;
use crate::admission::refusal::Refusal;
use crate::routing::balance::{Availability, Candidate};
use host_api::{HealthStatus, RouteState};
use model::id::BootId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::Instant;

/// One machine behind one outside port.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) machine: Arc<Machine>,
    pub(crate) load: Arc<AtomicU32>,
    /// The run of its VM; a connection belongs to one.
    pub(crate) boot: Option<BootId>,
    /// Port that the app listens on.
    pub(crate) port: u16,
    pub(crate) hard: u32,
    /// Each request gets a connection of its own: the limits count connections.
    pub(crate) connection_per_request: bool,
    /// Answers are passed on without added headers.
    pub(crate) pristine: bool,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) last_failure: Option<String>,
    /// Which of the machine's routes this is.
    pub(crate) version: u64,
    /// The host's stages of its last start, as they are written in answers to
    /// requests that waited for it; none if the service does not want that.
    pub(crate) timing: Option<Arc<str>>,
    pub(crate) came_up: Instant,
    pub(super) state: RouteState,
    pub(super) listening: bool,
    /// As its readiness checks see it; `None` without any.
    pub(super) health: Option<HealthStatus>,
    pub(super) cordoned: bool,
    pub(super) soft: u32,
    pub(super) autostart: bool,
    pub(super) suspended: bool,
    pub(super) remote: bool,
}

impl Target {
    pub(crate) fn candidate(&self) -> Candidate {
        Candidate {
            availability: self.availability(),
            unproven: self.health == Some(HealthStatus::Unproven),
            load: self.load.load(SeqCst),
            soft: self.soft,
            hard: self.hard,
            remote: self.remote,
            reachable: self.machine.host.is_reachable(),
            autostart: self.autostart,
            suspended: self.suspended,
        }
    }

    fn availability(&self) -> Availability {
        let asleep = || match self.machine.is_waking(self.version) {
            true => Availability::Starting,
            false => Availability::Asleep,
        };
        match self.state {
            _ if self.cordoned => Availability::Unavailable,
            RouteState::Unavailable => Availability::Unavailable,
            RouteState::Asleep | RouteState::Stopping => asleep(),
            RouteState::Starting => Availability::Starting,
            // It is about to stop, though the table does not show it yet.
            RouteState::Started if self.machine.is_draining() => asleep(),
            RouteState::Started if self.listening => match self.health {
                Some(HealthStatus::Failing) => Availability::Unhealthy,
                _ => Availability::Ready,
            },
            RouteState::Started => Availability::Starting,
        }
    }

    /// Counts a request at the machine.
    ///
    /// # Errors
    /// [`Refusal::AtLimit`] or [`Refusal::RecentlyStopped`].
    pub(crate) fn admit(&self) -> Result<Permit, Refusal> {
        Permit::take(&self.machine, &self.load, self.hard)
    }

    /// Counts a request of another edge, which may not know the machine's state.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn admit_if_ready(&self) -> Result<Permit, Refusal> {
        match self.availability() {
            Availability::Ready => self.admit(),
            Availability::Starting | Availability::Unhealthy => Err(Refusal::NotReady),
            Availability::Asleep => Err(Refusal::RecentlyStopped),
            Availability::Unavailable => Err(Refusal::Gone),
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.state == RouteState::Started
    }
}
