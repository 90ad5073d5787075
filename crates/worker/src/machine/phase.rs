//! The phases of a machine's VM, with the data that each phase has.

use super::boot::launched::{ImageFacts, Launched};
use super::down::clear::Teardown;
use super::step::RequestedAction;
use super::suspend::snapshot::SnapshotNote;
use crate::agent::{Agent, Ports, Report, UnitStates};
use crate::ports::{BootOrigin, VmExit};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time between two looks at the ports and the units of a guest.
const STATES_INTERVAL: Duration = Duration::from_millis(5);

/// The phase of the VM.
pub(super) enum VmPhase {
    /// Nothing; with how the VM that was removed last had ended.
    Absent(VmExit),
    /// A boot is recorded that has not begun; with the note of the snapshot that it
    /// is to be restored from.
    BootChosen(Option<SnapshotNote>),
    /// There is none; the image and disk of the first boot are being prepared.
    Preparing(CancellationToken),
    /// It is being made, restored or taken over.
    Launching(CancellationToken),
    /// It runs and there is a session with its guest.
    Up(Box<UpVm>),
    /// It runs, but there is no session with its guest.
    Unreachable(BoxFuture<'static, VmExit>),
    /// Its snapshot is being written.
    Saving(Box<Saving>),
    /// It is paused and its snapshot is complete; with its session, if there was one.
    Saved(Option<Arc<Agent>>),
    /// It has ended or is not to be used; something of it may be left.
    Leftover(Teardown),
    /// Its remains are being removed.
    Clearing,
}

impl VmPhase {
    pub(super) const NONE: Self =
        Self::Absent(VmExit { powered_off: false, signal: 0, console_tail: String::new() });

    pub(super) fn is_cancelled_launch(&self) -> bool {
        matches!(self, Self::Launching(cancel) if cancel.is_cancelled())
    }

    /// The next message of the VM; its end counts as [`Report::Lost`]. Its ports
    /// and units are read at most once per [`STATES_INTERVAL`]: a guest may change them as
    /// fast as it likes.
    pub(super) async fn next_message(&mut self) -> VmMessage {
        let up = match self {
            Self::Up(up) => &mut **up,
            Self::Saving(saving) if !saving.session_ended => &mut saving.up,
            Self::Unreachable(exited) => {
                let exit = exited.as_mut().await;
                *exited = Box::pin(std::future::ready(exit));
                return VmMessage::Report(Report::Lost);
            }
            _ => return std::future::pending().await,
        };
        let states_changed = async {
            tokio::time::sleep_until(up.states_not_before).await;
            tokio::select! {
                ports = changed(&mut up.ports) => VmMessage::Ports(ports),
                units = changed(&mut up.unit_states) => VmMessage::Units(units),
            }
        };
        tokio::select! {
            biased;
            report = up.reports.recv() => VmMessage::Report(report.unwrap_or(Report::Lost)),
            exit = &mut up.exited => {
                // It is read again when the VM is removed.
                up.exited = Box::pin(std::future::ready(exit));
                VmMessage::Report(Report::Lost)
            }
            message = states_changed => {
                up.states_not_before = Instant::now() + STATES_INTERVAL;
                message
            }
        }
    }
}

/// The next value. The channel is closed with the session, which is a report.
async fn changed<T: Clone>(states: &mut watch::Receiver<T>) -> T {
    match states.changed().await {
        Ok(()) => states.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

/// A message of the VM.
pub(super) enum VmMessage {
    Report(Report),
    Ports(Ports),
    Units(UnitStates),
}

/// A VM that runs, with the session to its guest.
pub(super) struct UpVm {
    pub(super) agent: Arc<Agent>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) ports: watch::Receiver<Ports>,
    pub(super) unit_states: watch::Receiver<UnitStates>,
    /// Ports and units are not read again before then.
    pub(super) states_not_before: Instant,
    pub(super) exited: BoxFuture<'static, VmExit>,
    /// Its main process runs.
    pub(super) running: bool,
    pub(super) requested: RequestedAction,
    /// The stop or suspend waits for the requests that the edge has in flight.
    pub(super) draining: Option<Draining>,
    /// How the VM came to life.
    pub(super) origin: BootOrigin,
    /// Milliseconds by stage of its launch.
    pub(super) stages: Vec<(String, f64)>,
    /// The image config that the launch has read.
    pub(super) image: Option<ImageFacts>,
    /// Version of the secrets that the launch has sent.
    pub(super) secrets_version: Option<u64>,
}

impl UpVm {
    pub(super) fn new(launched: Launched) -> Self {
        let Launched { agent, reports, ports, unit_states, .. } = launched;
        let Launched { image, exited, origin, stages, secrets_version, .. } = launched;
        Self {
            agent,
            reports,
            ports,
            unit_states,
            states_not_before: Instant::now(),
            exited,
            running: false,
            requested: RequestedAction::None,
            draining: None,
            origin,
            stages,
            image,
            secrets_version,
        }
    }

    /// It was booted or restored from a template. A VM that was restored from its
    /// machine's snapshot maps the memory file of that snapshot.
    pub(super) fn has_own_memory(&self) -> bool {
        matches!(self.origin, BootOrigin::Template | BootOrigin::Cold(_))
    }
}

/// The conditions that a drain waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    /// Which drain of the machine's task it is.
    pub(super) number: u64,
    /// The edge has no request in flight.
    pub(super) drained: bool,
    /// Every edge has applied that the machine stops.
    pub(super) routes_applied: bool,
}

/// A VM whose snapshot is being written.
pub(super) struct Saving {
    pub(super) up: UpVm,
    pub(super) cancel: CancellationToken,
    pub(super) session_ended: bool,
}
