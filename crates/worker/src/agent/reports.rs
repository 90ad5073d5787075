//! Where the reports of a guest go: to its machine's task and its machine's log.

use super::api::ApiFor;
use crate::logs::{Channel, GuestLog, LogStore, LogStream, Meta};
use guest_protocol::{Exit, LogSource, ToHost, UnitId, UnitState};
use model::id::BootId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// A guest's report about its main process; each at most once a session, so
/// that no guest can keep its machine's task busy.
#[derive(Debug)]
pub(crate) enum Report {
    Running {
        stages_ms: Vec<(String, f64)>,
    },
    Exited(Exit),
    ConfigFailed(String),
    /// The port is closed: the VM has ended.
    Lost,
}

/// Ports that listen and can be reached from the host.
pub(crate) type Ports = BTreeSet<u16>;

/// What the processes or containers of a guest with several do.
pub(crate) type UnitStates = BTreeMap<UnitId, UnitState>;

/// The machine that a guest belongs to, and where its reports go.
#[derive(Clone)]
pub(crate) struct Listen {
    pub(crate) app: String,
    pub(crate) machine: String,
    /// Its log is numbered from the start of this boot.
    pub(crate) boot: Option<BootId>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// Holds the newest state, however often it changes.
    pub(crate) ports: watch::Sender<Ports>,
    /// What lines of each of its processes or containers carry, if it has several.
    pub(crate) units: Vec<Meta>,
    /// The same for the states of these.
    pub(crate) unit_states: watch::Sender<UnitStates>,
    pub(crate) api: ApiFor,
}

impl Listen {
    /// Stores log data. `acknowledge` gets the offset up to which init may forget it,
    /// from a guest that numbers its log, once the data is written.
    pub(super) fn store(
        &self,
        (source, unit): (LogSource, Option<UnitId>),
        offset: Option<u64>,
        data: &[u8],
        acknowledge: impl FnOnce(u64) + Send + 'static,
    ) {
        let stream = log_stream(source);
        let Some(offset) = offset else {
            return self.logs.bytes(&self.app, &self.machine, stream, data);
        };
        let (app, machine, boot) = (&self.app, &self.machine, self.boot);
        let channel = Channel { stream, unit };
        let meta = unit.and_then(|unit| self.units.get(usize::from(unit)).cloned());
        let log = GuestLog { app, machine, boot, channel, meta, offset, data };
        self.logs.append_guest(&log, acknowledge);
    }

    /// Stores log data that arrives before the welcome. It belongs to no session, but
    /// it has what happened while no daemon ran.
    pub(super) fn keep_log(&self, message: ToHost) {
        match message {
            ToHost::Log { source, offset, data, unit } => {
                self.store((source, unit), offset, &data, drop);
            }
            ToHost::LogDropped(bytes) => {
                self.logs.guest_dropped(&self.app, &self.machine, bytes);
            }
            _ => {}
        }
    }
}

fn log_stream(source: LogSource) -> LogStream {
    match source {
        LogSource::Stdout => LogStream::Stdout,
        LogSource::Stderr => LogStream::Stderr,
        LogSource::Init => LogStream::Init,
    }
}
