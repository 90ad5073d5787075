//! The services of one process joined: edge to the worker beside it, and the
//! machines' processes to the API.

use async_trait::async_trait;
use edge::ports::Workers;
use model::id::MachineId;
use std::sync::OnceLock;
use tokio::sync::mpsc;
use wire::routes::{RouteChange, RouteSnapshot, WakeRefused};
use worker::Worker;
use worker::ports::AgentIo;

/// The API as guests reach it. The host's machines run before there is an API;
/// a guest that asks before that finds its connection closed and tries again.
#[derive(Default)]
pub(super) struct LateGuestApi(OnceLock<control::guest_api::GuestApi>);

impl LateGuestApi {
    /// From now on guests are answered.
    pub(super) fn open(&self, api: control::guest_api::GuestApi) {
        // It is opened once, by the start of the daemon.
        let _ = self.0.set(api);
    }
}

impl worker::ports::GuestApi for LateGuestApi {
    fn serve(&self, machine: MachineId, _: &str, io: Box<dyn AgentIo>) {
        if let Some(api) = self.0.get() {
            api.serve(machine, io);
        }
    }
}

/// The worker beside the edge.
pub(super) struct LocalWorkers(pub(super) Worker);

#[async_trait]
impl Workers for LocalWorkers {
    async fn subscribe(&self) -> (RouteSnapshot, mpsc::Receiver<(u64, RouteChange)>) {
        self.0.subscribe()
    }

    async fn wake(&self, machine: &str) -> Result<(), WakeRefused> {
        self.0.wake(machine).await
    }

    async fn stop_idle(&self, machine: &str, reason: &str) -> Result<(), WakeRefused> {
        self.0.stop_idle(machine, reason).await
    }

    async fn suspend_idle(&self, machine: &str, reason: &str) -> Result<(), WakeRefused> {
        self.0.suspend_idle(machine, reason).await
    }

    fn drained(&self, machine: &str) {
        self.0.drained(machine);
    }

    fn log(&self, app: &str, machine: Option<&str>, line: String) {
        match machine {
            Some(machine) => self.0.log_line(app, machine, "proxy", &line),
            None => tracing::info!(app, line, "edge"),
        }
    }
}
