//! The result of a launch: a VM with a session, or why there is none.

use crate::agent::{Agent, AgentError, Ports, Report, UnitStates, Welcome};
use crate::ports::{BootOrigin, ImageConfig, PortError, VmExit};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// A VM that is up, with an open session.
pub(in super::super) struct Launched {
    pub(in super::super) agent: Arc<Agent>,
    pub(in super::super) welcome: Welcome,
    pub(in super::super) reports: mpsc::Receiver<Report>,
    pub(in super::super) ports: watch::Receiver<Ports>,
    pub(in super::super) unit_states: watch::Receiver<UnitStates>,
    /// The image config that was read.
    pub(in super::super) image: Option<ImageFacts>,
    pub(in super::super) exited: BoxFuture<'static, VmExit>,
    pub(in super::super) origin: BootOrigin,
    /// Milliseconds by stage.
    pub(in super::super) stages: Vec<(String, f64)>,
    /// Version of the app's secrets in the config that the guest was sent; `None` if it
    /// was sent none.
    pub(in super::super) secrets_version: Option<u64>,
}

/// The part of its image's config that a machine's record keeps.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ImageFacts {
    pub(in super::super) labels: BTreeMap<String, String>,
    pub(in super::super) stop_signal: Option<i32>,
}

impl ImageFacts {
    pub(super) fn of(image: ImageConfig) -> Self {
        let stop_signal = model::signal::number(&image.stop_signal);
        Self { labels: image.labels, stop_signal }
    }
}

/// Why a VM did not come up.
#[derive(Debug)]
pub(in super::super) enum LaunchError {
    /// It is no longer wanted.
    Cancelled,
    /// Another try may help.
    Transient(String),
    /// Another try would fail as well.
    Final(String),
}

impl LaunchError {
    pub(in super::super) fn of(err: &PortError) -> Self {
        let text = rt::chain(err);
        if err.transient { Self::Transient(text) } else { Self::Final(text) }
    }
}

impl LaunchError {
    pub(super) fn agent(err: &AgentError) -> Self {
        match err {
            AgentError::Version(_) => Self::Final(rt::chain(err)),
            _ => Self::Transient(rt::chain(err)),
        }
    }
}
