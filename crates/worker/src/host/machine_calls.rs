//! The calls that the control plane makes on this host, as plain methods.

use super::registry::Worker;
use crate::context::HostContext;
use crate::db::{AddError, Change};
use crate::machine::view::View;
use crate::machine::wait::wait;
use crate::machine::{AtStart, Handle, Reply, Request, new_event};
use crate::record::Record;
use futures_util::stream::BoxStream;
use model::id::{EventId, InstanceId, MachineId};
use model::life::State;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use wire::logs::{LogEntry, LogQuery};
use wire::machines::{Machine, MachineEvent, MachineVersion, Process, Started, WaitResult};
use wire::worker::*;

impl Worker {
    /// What this host is and has, without what has to be read of its VMs and disk.
    pub fn info(&self) -> HostInfo {
        let about = self.0.context.hypervisor.about();
        let mut machines = std::collections::BTreeMap::new();
        for handle in self.0.handles() {
            *machines.entry(handle.view().record.state.as_str().to_owned()).or_default() += 1;
        }
        HostInfo {
            host: self.0.context.config.host.0,
            region: self.0.context.config.region.clone(),
            accelerator: about.accelerator,
            hypervisor: about.version,
            cpus: self.0.context.config.cpus,
            memory_mib: self.0.context.config.memory_mib,
            overcommit: self.0.context.config.overcommit,
            memory_reserved_mib: self.0.context.capacity.reserved_mib(),
            memory_used_mib: 0,
            templates: Vec::new(),
            machines,
        }
    }

    /// What this host is and has, and what its VMs use of it.
    pub async fn info_with_usage(&self) -> HostInfo {
        let host = &self.0.context;
        let memory_used_mib = self.0.usage.used_mib(host, self.0.handles()).await;
        let shape = |shape: &crate::ports::Shape| format!("{}x{}", shape.vcpus, shape.memory_mib);
        let templates = host.hypervisor.templates().iter().map(shape).collect();
        HostInfo { memory_used_mib, templates, ..self.info() }
    }

    /// Records and reserves a machine; it is started in the background.
    ///
    /// # Errors
    /// Name or id are taken, no room, or the record cannot be written.
    pub async fn create(&self, create: CreateMachine) -> Result<Machine, HostError> {
        let host = &self.0.context;
        let now = host.clock.now_ms();
        let launch = !create.skip_launch;
        let instance = InstanceId::new(now, host.rng.wide_bits() >> 49);
        let invalid = |err: model::id::BadId| HostError::Invalid(err.to_string());
        let record =
            Record::new(create, instance, model::address::Slot(0), now).map_err(invalid)?;
        let (id, memory) = (record.id, record.memory_mib());
        if launch {
            let room = host.capacity.reserve(id, memory);
            room.map_err(|err| HostError::NoCapacity(err.to_string()))?;
        }
        let event_id = EventId::new(now, host.rng.wide_bits() >> 49);
        let event = new_event(event_id, "launch", State::Created, Source::User, now);
        let change = Change { events: vec![event.clone()], new_version: true };
        let slots = host.config.pool.machines();
        let place = move |slot| Record { slot: Some(slot), ..record };
        match host.db.add(place, slots, change).await {
            Ok(record) => {
                let addresses = host.addresses(&record);
                let view = View::new(record, addresses, vec![event]);
                let machine = self.show(&view, false);
                self.0.run_machine(view, AtStart::NoVm);
                Ok(machine)
            }
            Err(err) => {
                host.capacity.release(id);
                Err(match err {
                    AddError::NameTaken | AddError::IdTaken => HostError::Conflict(err.to_string()),
                    AddError::NoSlot => HostError::NoCapacity(err.to_string()),
                    AddError::Database(_) => HostError::Internal(rt::chain(&err)),
                })
            }
        }
    }

    fn show(&self, view: &View, summary: bool) -> Machine {
        let about = self.0.context.hypervisor.about();
        view.machine(&self.0.context.config.region, &about.accelerator, summary)
    }

    pub(super) fn handle(&self, id: &str) -> Result<Handle, HostError> {
        let known = id.parse().ok().and_then(|id: MachineId| self.0.handle(id));
        known.ok_or_else(|| HostError::NotFound(format!("machine not found: {id}")))
    }

    pub(super) async fn ask<T>(
        &self,
        handle: &Handle,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, HostError> {
        let (reply, answer) = oneshot::channel();
        let state = || handle.view().record.state;
        handle.requests.try_send(request(reply)).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => {
                HostError::Conflict("too many requests wait for this machine".into())
            }
            mpsc::error::TrySendError::Closed(_) => {
                HostError::Conflict(format!("machine is {}", state()))
            }
        })?;
        let gone = |_| match state() {
            State::Destroyed => HostError::Conflict(format!("machine is {}", State::Destroyed)),
            other => HostError::Conflict(format!("machine is {other} and its host is stopping")),
        };
        answer.await.map_err(gone)?
    }

    /// One machine, also a destroyed one while its record is kept.
    ///
    /// # Errors
    /// Nothing of that id is here.
    pub fn machine(&self, id: &str) -> Result<Machine, HostError> {
        Ok(self.show(&self.handle(id)?.view(), false))
    }

    /// Machines, oldest first.
    pub fn machines(&self, filter: &MachineFilter) -> Vec<Machine> {
        let mut views: Vec<Arc<View>> = self.0.handles().iter().map(Handle::view).collect();
        views.retain(|view| matches(&view.record, filter, &self.0.context));
        views.sort_by_key(|view| (view.record.created_ms, view.record.id));
        views.iter().map(|view| self.show(view, filter.summary)).collect()
    }

    /// Records the desired state `started`.
    ///
    /// # Errors
    /// The state does not allow it, or there is no room.
    pub async fn start_machine(&self, id: &str, source: Source) -> Result<Started, HostError> {
        self.ask(&self.handle(id)?, |reply| Request::Start(source, reply)).await
    }

    /// Records the desired state `stopped`.
    ///
    /// # Errors
    /// The state does not allow it.
    pub async fn stop(
        &self,
        id: &str,
        stop: Stop,
        source: Source,
        reason: Option<String>,
    ) -> Result<(), HostError> {
        self.ask(&self.handle(id)?, |reply| Request::Stop(stop, source, reason, reply)).await
    }

    /// Records the desired state `suspended`.
    ///
    /// # Errors
    /// It is not started, or cannot be suspended.
    pub async fn suspend(&self, id: &str, source: Source) -> Result<(), HostError> {
        self.suspend_because(id, source, None).await
    }

    pub(super) async fn suspend_because(
        &self,
        id: &str,
        source: Source,
        reason: Option<String>,
    ) -> Result<(), HostError> {
        self.ask(&self.handle(id)?, |reply| Request::Suspend(source, reason, reply)).await
    }

    /// Stop and start.
    ///
    /// # Errors
    /// The state does not allow it.
    pub async fn restart(&self, id: &str, stop: Stop, force: bool) -> Result<(), HostError> {
        self.ask(&self.handle(id)?, |reply| Request::Restart(stop, force, reply)).await
    }

    /// Replaces the config by a new instance.
    ///
    /// # Errors
    /// The state does not allow it, the version given is stale, or no room.
    pub async fn update(&self, update: UpdateMachine) -> Result<Machine, HostError> {
        let handle = self.handle(&update.id)?;
        self.ask(&handle, |reply| Request::Update(Box::new(update), reply)).await?;
        Ok(self.show(&handle.view(), false))
    }

    /// Records the desired state `destroyed`.
    ///
    /// # Errors
    /// It runs and `force` is not given.
    pub async fn destroy(&self, id: &str, force: bool) -> Result<(), HostError> {
        let handle = self.handle(id)?;
        if handle.view().record.state == State::Destroyed {
            return Err(HostError::NotFound(format!("machine not found: {id} is destroyed")));
        }
        self.ask(&handle, |reply| Request::Destroy(force, reply)).await
    }

    /// Takes a machine out of routing or back in.
    ///
    /// # Errors
    /// The record cannot be written.
    pub async fn cordon(&self, id: &str, cordoned: bool) -> Result<(), HostError> {
        self.ask(&self.handle(id)?, |reply| Request::Cordon(cordoned, reply)).await
    }

    /// Changes labels.
    ///
    /// # Errors
    /// The version given is stale, or the record cannot be written.
    pub async fn change_metadata(
        &self,
        id: &str,
        change: ChangeMetadata,
        version: Option<String>,
    ) -> Result<(), HostError> {
        let handle = self.handle(id)?;
        self.ask(&handle, |reply| Request::Metadata(change, version, reply)).await
    }

    /// Sends a signal to the main process.
    ///
    /// # Errors
    /// It does not run.
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), HostError> {
        let handle = self.handle(id)?;
        if handle.view().record.state == State::Started {
            self.agent(id).await?;
        }
        self.ask(&handle, |reply| Request::Signal(signal, reply)).await
    }

    /// Newest events first.
    ///
    /// # Errors
    /// Nothing of that id is here, or the database cannot be read.
    pub async fn events(&self, id: &str, limit: usize) -> Result<Vec<MachineEvent>, HostError> {
        let id = self.handle(id)?.view().record.id;
        let events = self.0.context.db.events(id, limit).await;
        events.map_err(|err| HostError::Internal(rt::chain(&err)))
    }

    /// All versions, newest first.
    ///
    /// # Errors
    /// Nothing of that id is here, or the database cannot be read.
    pub async fn versions(&self, id: &str) -> Result<Vec<MachineVersion>, HostError> {
        let id = self.handle(id)?.view().record.id;
        let versions = self.0.context.db.versions(id).await;
        versions.map_err(|err| HostError::Internal(rt::chain(&err)))
    }

    /// Returns once the machine is in one of the states.
    ///
    /// # Errors
    /// Not in time, or it will not get there by itself.
    pub async fn wait(&self, id: &str, wanted: &WaitFor) -> Result<WaitResult, HostError> {
        wait(self.handle(id)?.views, wanted).await
    }

    /// Processes in the guest.
    ///
    /// # Errors
    /// It does not run or does not answer.
    pub async fn processes(&self, id: &str) -> Result<Vec<Process>, HostError> {
        let agent = self.agent(id).await?;
        agent.processes().await.map_err(|err| HostError::Internal(rt::chain(&err)))
    }

    /// Runs a command in the guest. Dropping both channels kills it.
    ///
    /// # Errors
    /// It does not run.
    pub async fn exec(
        &self,
        id: &str,
        exec: ExecStart,
    ) -> Result<(mpsc::Sender<ExecInput>, mpsc::Receiver<ExecOutput>), HostError> {
        Ok(self.agent(id).await?.exec(exec, &self.0.context.tasks))
    }

    /// The session with a guest that runs. After a resume or an aborted suspend it
    /// is open within a moment.
    async fn agent(&self, id: &str) -> Result<Arc<crate::agent::Agent>, HostError> {
        let mut views = self.handle(id)?.views;
        let decided =
            |view: &Arc<View>| view.agent.is_some() || view.record.state != State::Started;
        let limit = self.0.context.config.boot_deadline;
        // If it is late or destroyed, the view says so.
        let _ = tokio::time::timeout(limit, views.wait_for(decided)).await;
        let view = views.borrow().clone();
        let state = view.record.state;
        let running = matches!(state, State::Started | State::Stopping);
        view.agent.clone().filter(|_| running).ok_or_else(|| {
            HostError::Conflict(format!("machine is {state}: it has to be started for this"))
        })
    }

    /// Log lines of an app's machines, oldest first. Those of a destroyed machine
    /// only if the query names it.
    pub async fn logs(&self, app: &str, query: &LogQuery) -> BoxStream<'static, LogEntry> {
        let mut machines = Vec::new();
        for view in self.0.handles().iter().map(Handle::view) {
            let record = &view.record;
            let id = record.id.to_string();
            let meant = match &query.instance {
                Some(instance) => *instance == id,
                None => record.state != State::Destroyed,
            };
            // An earlier app may have had the same name.
            if meant && record.app.as_str() == app && record.created_ms >= query.since_ms {
                machines.push(id);
            }
        }
        self.0.context.logs.query(machines, app, query).await
    }

    /// Adds a line to a machine's log.
    pub fn log_line(&self, app: &str, machine: &str, provider: &str, line: &str) {
        self.0.context.logs.line(app, machine, provider, line);
    }
}

fn matches(record: &Record, filter: &MachineFilter, host: &HostContext) -> bool {
    let labels = record.config.metadata.clone().unwrap_or_default();
    filter.app.as_ref().is_none_or(|app| *app == record.app.as_str())
        && (filter.include_deleted || record.state != State::Destroyed)
        && (filter.states.is_empty() || filter.states.iter().any(|s| s == record.state.as_str()))
        && filter.region.as_ref().is_none_or(|region| *region == host.config.region)
        && filter.metadata.iter().all(|(key, value)| labels.get(key) == Some(value))
}
