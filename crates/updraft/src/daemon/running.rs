//! What runs in this process, for the report and the shutdown.

use super::adapters::About;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use worker::Worker;

/// What runs, for the report.
pub(super) struct Running {
    /// With the role `control`.
    pub(super) api: Option<Api>,
    /// Empty without the role `edge`.
    pub(super) edge: Vec<SocketAddr>,
    /// With the role `worker`.
    pub(super) host: Option<Host>,
}

/// The API that is served.
pub(super) struct Api {
    pub(super) address: SocketAddr,
    /// Where tunnels of flyctl are accepted.
    pub(super) tunnel: Option<SocketAddr>,
    pub(super) cli_config: Option<String>,
}

/// The host of this process.
pub(super) struct Host {
    pub(super) worker: Worker,
    pub(super) about: About,
    pub(super) machines: BTreeMap<String, u64>,
    /// Where other processes reach it.
    pub(super) host_api: Option<SocketAddr>,
}
