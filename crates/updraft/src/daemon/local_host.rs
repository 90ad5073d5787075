//! The worker of this process behind the traits of `host-api`, for the control
//! plane. Its calls still name machines and apps by text.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::*;
use model::id::{AppId, InstanceId, MachineId};
use std::sync::Arc;
use store::Store;
use store::records::{self, AppRecord, Stored};
use tokio::sync::mpsc;
use wire::logs::{LogEntry, LogQuery};
use wire::machines::{
    Image, ImageProgress, ImageRef, Machine, MachineEvent, MachineVersion, Process, Started,
    WaitResult,
};
use wire::worker as old;
use worker::Worker;

/// The worker, and the store for the names of apps.
pub(super) struct LocalHost {
    pub(super) worker: Worker,
    pub(super) store: Arc<dyn Store>,
    /// Other codes of the host's region.
    pub(super) region_aliases: Vec<String>,
}

impl LocalHost {
    /// The name by which the worker knows an app.
    async fn app_name(&self, id: AppId) -> Result<String, HostError> {
        let apps: Vec<Stored<AppRecord>> = records::list(&*self.store, records::APPS)
            .await
            .map_err(|err| HostError::Internal(rt::chain(&err)))?;
        let app = apps.into_iter().find(|app| app.record.id == id);
        let app = app.ok_or_else(|| HostError::NotFound(format!("there is no app {id}")))?;
        Ok(app.record.name.to_string())
    }

    fn host_info(&self, info: old::HostInfo) -> HostInfo {
        HostInfo {
            host: model::id::HostId(info.host),
            name: String::new(),
            region: info.region,
            region_aliases: self.region_aliases.clone(),
            accelerator: info.accelerator,
            hypervisor: info.hypervisor,
            cpus: info.cpus,
            memory_mib: info.memory_mib,
            memory_reserved_mib: info.memory_reserved_mib,
            memory_used_mib: info.memory_used_mib,
            overcommit: info.overcommit,
            templates: info.templates,
            machines: info.machines,
            ipv4_pool: None,
        }
    }
}

fn error(err: old::HostError) -> HostError {
    match err {
        old::HostError::NotFound(why) => HostError::NotFound(why),
        old::HostError::Conflict(why) => HostError::Conflict(why),
        old::HostError::Stale(why) => HostError::VersionMismatch(why),
        old::HostError::Invalid(why) => HostError::Invalid(why),
        old::HostError::NoCapacity(why) => HostError::NoCapacity(why),
        old::HostError::Timeout(why) => HostError::DeadlineExceeded(why),
        old::HostError::Internal(why) => HostError::Internal(why),
    }
}

fn source(context: &CallContext) -> old::Source {
    match context.source {
        Source::User => old::Source::User,
        Source::Host => old::Source::Host,
        Source::Proxy => old::Source::Proxy,
    }
}

fn stop_of(Stop { signal, timeout_ms }: Stop) -> old::Stop {
    old::Stop { signal, timeout_ms }
}

#[async_trait]
impl Status for LocalHost {
    async fn info(&self, _: CallContext) -> Result<HostInfo, HostError> {
        Ok(self.host_info(self.worker.info()))
    }

    async fn info_with_usage(&self, _: CallContext) -> Result<HostInfo, HostError> {
        Ok(self.host_info(self.worker.info_with_usage().await))
    }
}

#[async_trait]
impl Machines for LocalHost {
    async fn create(&self, _: CallContext, ask: CreateMachine) -> Result<Machine, HostError> {
        let create = old::CreateMachine {
            id: ask.id.to_string(),
            app: ask.app_name.to_string(),
            org: ask.org_slug.to_string(),
            network: ask.network.0,
            name: ask.name.to_string(),
            config: ask.config,
            image: ask.image,
            skip_launch: ask.skip_launch,
            cordoned: ask.cordoned,
        };
        self.worker.create(create).await.map_err(error)
    }

    async fn update(&self, _: CallContext, ask: UpdateMachine) -> Result<Machine, HostError> {
        let update = old::UpdateMachine {
            id: ask.id.to_string(),
            config: ask.config,
            image: ask.image,
            skip_launch: ask.skip_launch,
            current_version: ask.current_version.map(|version| version.to_string()),
        };
        self.worker.update(update).await.map_err(error)
    }

    async fn machine(&self, _: CallContext, id: MachineId) -> Result<Machine, HostError> {
        self.worker.machine(&id.to_string()).map_err(error)
    }

    async fn machines(
        &self,
        _: CallContext,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, HostError> {
        let app = match filter.app {
            Some(app) => match self.app_name(app).await {
                Ok(name) => Some(name),
                Err(HostError::NotFound(_)) => return Ok(vec![]),
                Err(err) => return Err(err),
            },
            None => None,
        };
        let MachineFilter { include_deleted, states, region, metadata, summary, .. } = filter;
        let filter = old::MachineFilter { app, include_deleted, states, region, metadata, summary };
        Ok(self.worker.machines(&filter))
    }

    async fn start(&self, context: CallContext, id: MachineId) -> Result<Started, HostError> {
        self.worker.start_machine(&id.to_string(), source(&context)).await.map_err(error)
    }

    async fn stop(&self, context: CallContext, id: MachineId, stop: Stop) -> Result<(), HostError> {
        let (id, source) = (id.to_string(), source(&context));
        self.worker.stop(&id, stop_of(stop), source, None).await.map_err(error)
    }

    async fn suspend(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        self.worker.suspend(&id.to_string(), source(&context)).await.map_err(error)
    }

    async fn restart(
        &self,
        _: CallContext,
        id: MachineId,
        stop: Stop,
        force: bool,
    ) -> Result<(), HostError> {
        self.worker.restart(&id.to_string(), stop_of(stop), force).await.map_err(error)
    }

    async fn signal(&self, _: CallContext, id: MachineId, signal: i32) -> Result<(), HostError> {
        self.worker.signal(&id.to_string(), signal).await.map_err(error)
    }

    async fn destroy(&self, _: CallContext, id: MachineId, force: bool) -> Result<(), HostError> {
        self.worker.destroy(&id.to_string(), force).await.map_err(error)
    }

    async fn cordon(&self, _: CallContext, id: MachineId, cordoned: bool) -> Result<(), HostError> {
        self.worker.cordon(&id.to_string(), cordoned).await.map_err(error)
    }

    async fn change_metadata(
        &self,
        _: CallContext,
        id: MachineId,
        change: ChangeMetadata,
        version: Option<InstanceId>,
    ) -> Result<(), HostError> {
        let change = match change {
            ChangeMetadata::Merge(keys) => old::ChangeMetadata::Merge(keys),
            ChangeMetadata::Replace(keys) => old::ChangeMetadata::Replace(keys),
        };
        let version = version.map(|version| version.to_string());
        self.worker.change_metadata(&id.to_string(), change, version).await.map_err(error)
    }

    async fn events(
        &self,
        _: CallContext,
        id: MachineId,
        limit: usize,
    ) -> Result<Vec<MachineEvent>, HostError> {
        self.worker.events(&id.to_string(), limit).await.map_err(error)
    }

    async fn versions(
        &self,
        _: CallContext,
        id: MachineId,
    ) -> Result<Vec<MachineVersion>, HostError> {
        self.worker.versions(&id.to_string()).await.map_err(error)
    }

    async fn wait(
        &self,
        _: CallContext,
        id: MachineId,
        wait: WaitFor,
    ) -> Result<WaitResult, HostError> {
        let wait = old::WaitFor {
            states: wait.states,
            version: wait.version.map(|version| version.to_string()),
            from_event: wait.from_event.map(|event| event.to_string()),
            timeout_ms: wait.timeout_ms,
        };
        self.worker.wait(&id.to_string(), &wait).await.map_err(error)
    }

    async fn processes(&self, _: CallContext, id: MachineId) -> Result<Vec<Process>, HostError> {
        self.worker.processes(&id.to_string()).await.map_err(error)
    }
}

#[async_trait]
impl Exec for LocalHost {
    async fn exec(
        &self,
        _: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError> {
        let (to_command, mut from_command) =
            self.worker.exec(&id.to_string(), exec).await.map_err(error)?;
        let (input, mut inputs) = mpsc::channel(1);
        let (outputs, output) = mpsc::channel(1);
        let tasks = rt::Tasks::new();
        // Each direction ends with either end of it, and so does the other.
        tasks.spawn(async move {
            while let Some(next) = inputs.recv().await {
                let next = match next {
                    ExecInput::Data(data) => old::ExecInput::Data(data),
                    ExecInput::Resize(size) => old::ExecInput::Resize(size),
                    ExecInput::Signal(signal) => old::ExecInput::Signal(signal),
                };
                if to_command.send(next).await.is_err() {
                    return;
                }
            }
        });
        tasks.spawn(async move {
            while let Some(next) = tokio::select! {
                next = from_command.recv() => next,
                () = outputs.closed() => None,
            } {
                let next = match next {
                    old::ExecOutput::Stdout(data) => ExecOutput::Stdout(data),
                    old::ExecOutput::Stderr(data) => ExecOutput::Stderr(data),
                    old::ExecOutput::Exited { code, signal } => ExecOutput::Exited { code, signal },
                    old::ExecOutput::Failed(why) => ExecOutput::Failed(why),
                };
                if outputs.send(next).await.is_err() {
                    return;
                }
            }
        });
        Ok(ExecSession { input, output })
    }
}

#[async_trait]
impl Logs for LocalHost {
    async fn logs(
        &self,
        _: CallContext,
        app: AppId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        Ok(self.worker.logs(&self.app_name(app).await?, &query).await.boxed())
    }

    /// Only the edge adds lines, and has the worker itself.
    fn append(&self, line: LogLine) {
        tracing::info!(app = line.app.0, line = line.message, "log line of the platform");
    }
}

#[async_trait]
impl Images for LocalHost {
    async fn resolve_image(
        &self,
        _: CallContext,
        reference: String,
    ) -> Result<ImageRef, HostError> {
        self.worker.resolve_image(&reference).await.map_err(error)
    }

    async fn import_image(
        &self,
        _: CallContext,
        name: Option<String>,
        tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        self.worker.import_image(name, tar).await.map_err(error)
    }

    async fn images(&self, _: CallContext) -> Result<Vec<Image>, HostError> {
        self.worker.images().await.map_err(error)
    }

    async fn remove_image(&self, _: CallContext, reference: String) -> Result<bool, HostError> {
        self.worker.remove_image(&reference).await.map_err(error)
    }
}

const NOT_HERE: &str = "the edge of this process has the worker itself";

#[async_trait]
impl Routes for LocalHost {
    async fn routes(&self, _: CallContext) -> Result<RouteSubscription, HostError> {
        Err(HostError::Unsupported(NOT_HERE.into()))
    }
}

#[async_trait]
impl Load for LocalHost {
    async fn wake(&self, _: CallContext, _: MachineId) -> Result<(), WakeRefused> {
        Err(WakeRefused::Unavailable(NOT_HERE.into()))
    }

    async fn stop_idle(&self, _: CallContext, _: MachineId, _: String) -> Result<(), WakeRefused> {
        Err(WakeRefused::Unavailable(NOT_HERE.into()))
    }

    async fn suspend_idle(
        &self,
        _: CallContext,
        _: MachineId,
        _: String,
    ) -> Result<(), WakeRefused> {
        Err(WakeRefused::Unavailable(NOT_HERE.into()))
    }

    fn drained(&self, id: MachineId) {
        self.worker.drained(&id.to_string());
    }

    fn sessions(&self, _: MachineId) -> usize {
        0
    }
}

#[async_trait]
impl Connections for LocalHost {
    async fn connect(&self, _: CallContext, _: Upstream) -> std::io::Result<Box<dyn GuestStream>> {
        Err(std::io::Error::other(NOT_HERE))
    }

    async fn guest_connections(
        &self,
        _: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        Err(HostError::Unsupported("connections of guests are passed on directly".into()))
    }
}
