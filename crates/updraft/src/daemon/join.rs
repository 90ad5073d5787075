//! The services of one process joined: control and edge to the worker beside
//! them. On a cluster the same ports are served over the network.

use async_trait::async_trait;
use control::ports::{ExecSession, Host, Hosts};
use futures_util::stream::BoxStream;
use model::id::{HostId, MachineId};
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncRead;
use wire::logs::{LogEntry, LogQuery};
use wire::machines::{
    Image, ImageProgress, ImageRef, Machine, MachineEvent, MachineVersion, Process, Started,
    WaitResult,
};
use wire::worker::*;
use worker::Worker;
use worker::ports::AgentIo;

/// The one host of this process.
pub(super) struct LocalHosts {
    id: HostId,
    host: Arc<LocalHost>,
}

impl LocalHosts {
    pub(super) fn new(id: HostId, worker: Worker) -> Self {
        Self { id, host: Arc::new(LocalHost(worker)) }
    }
}

impl Hosts for LocalHosts {
    fn all(&self) -> Vec<(HostId, Arc<dyn Host>)> {
        vec![(self.id, self.host.clone())]
    }
}

struct LocalHost(Worker);

#[async_trait]
impl Host for LocalHost {
    async fn info(&self) -> Result<HostInfo, HostError> {
        Ok(self.0.info())
    }

    async fn info_with_usage(&self) -> Result<HostInfo, HostError> {
        Ok(self.0.info_with_usage().await)
    }

    async fn resolve_image(&self, reference: &str) -> Result<ImageRef, HostError> {
        self.0.resolve_image(reference).await
    }

    async fn create(&self, machine: CreateMachine) -> Result<Machine, HostError> {
        self.0.create(machine).await
    }

    async fn update(&self, update: UpdateMachine) -> Result<Machine, HostError> {
        self.0.update(update).await
    }

    async fn machine(&self, id: &str) -> Result<Machine, HostError> {
        self.0.machine(id)
    }

    async fn machines(&self, filter: MachineFilter) -> Result<Vec<Machine>, HostError> {
        Ok(self.0.machines(&filter))
    }

    async fn start(&self, id: &str, source: Source) -> Result<Started, HostError> {
        self.0.start_machine(id, source).await
    }

    async fn stop(&self, id: &str, stop: Stop, source: Source) -> Result<(), HostError> {
        self.0.stop(id, stop, source, None).await
    }

    async fn suspend(&self, id: &str, source: Source) -> Result<(), HostError> {
        self.0.suspend(id, source).await
    }

    async fn restart(&self, id: &str, stop: Stop, force: bool) -> Result<(), HostError> {
        self.0.restart(id, stop, force).await
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), HostError> {
        self.0.signal(id, signal).await
    }

    async fn destroy(&self, id: &str, force: bool) -> Result<(), HostError> {
        self.0.destroy(id, force).await
    }

    async fn cordon(&self, id: &str, cordoned: bool) -> Result<(), HostError> {
        self.0.cordon(id, cordoned).await
    }

    async fn change_metadata(
        &self,
        id: &str,
        change: ChangeMetadata,
        version: Option<&str>,
    ) -> Result<(), HostError> {
        self.0.change_metadata(id, change, version.map(str::to_owned)).await
    }

    async fn events(&self, id: &str, limit: usize) -> Result<Vec<MachineEvent>, HostError> {
        self.0.events(id, limit).await
    }

    async fn versions(&self, id: &str) -> Result<Vec<MachineVersion>, HostError> {
        self.0.versions(id).await
    }

    async fn wait(&self, id: &str, wait: WaitFor) -> Result<WaitResult, HostError> {
        self.0.wait(id, &wait).await
    }

    async fn processes(&self, id: &str) -> Result<Vec<Process>, HostError> {
        self.0.processes(id).await
    }

    async fn exec(&self, id: &str, exec: ExecStart) -> Result<ExecSession, HostError> {
        self.0.exec(id, exec).await.map(|(input, output)| ExecSession { input, output })
    }

    async fn logs(
        &self,
        app: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        Ok(self.0.logs(app, &query).await)
    }

    async fn import_image(
        &self,
        name: Option<String>,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        self.0.import_image(name, tar).await
    }

    async fn images(&self) -> Result<Vec<Image>, HostError> {
        self.0.images().await
    }

    async fn remove_image(&self, reference: &str) -> Result<bool, HostError> {
        self.0.remove_image(reference).await
    }
}

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
    fn serve(&self, machine: MachineId, app: &str, io: Box<dyn AgentIo>) {
        if let Some(api) = self.0.get() {
            api.serve(machine, app.to_owned(), io);
        }
    }
}
