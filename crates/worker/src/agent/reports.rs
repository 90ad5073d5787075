//! Where the reports of a guest go: to its machine's task and its machine's log.

use super::api::ApiFor;
use crate::logs::{GuestLog, LogStore, Voice};
use guest_protocol::{Exit, LogSource, ToHost};
use model::id::BootId;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What a guest reports about its main process; each at most once a session, so
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
    pub(crate) api: ApiFor,
}

impl Listen {
    /// Stores log data. Returns the offset up to which init may forget it, from a
    /// guest that numbers its log.
    pub(super) fn store(&self, source: LogSource, offset: Option<u64>, data: &[u8]) -> Option<u64> {
        let voice = voice(source);
        let Some(offset) = offset else {
            self.logs.bytes(&self.app, &self.machine, voice, data);
            return None;
        };
        let (app, machine, boot) = (&self.app, &self.machine, self.boot);
        Some(self.logs.append_guest(&GuestLog { app, machine, boot, voice, offset, data }))
    }

    /// Stores log data that arrives before the welcome. It belongs to no session, but
    /// it tells what happened while no daemon ran.
    pub(super) fn keep_log(&self, message: ToHost) {
        match message {
            ToHost::Log { source, offset, data } => drop(self.store(source, offset, &data)),
            ToHost::LogDropped(bytes) => {
                self.logs.guest_dropped(&self.app, &self.machine, bytes);
            }
            _ => {}
        }
    }
}

fn voice(source: LogSource) -> Voice {
    match source {
        LogSource::Stdout => Voice::Stdout,
        LogSource::Stderr => Voice::Stderr,
        LogSource::Init => Voice::Init,
    }
}
