//! The life of machines.

mod checks;
mod create;
mod leases;
mod memory;
mod schedules;

use crate::context::HostContext;
use crate::db::UnreadableRow;
use crate::host::registry::Worker;
use crate::machine::view::View;
use crate::machine::wait::wait;
use crate::machine::{Guard, Handle, Request};
use crate::record::Record;
use async_trait::async_trait;
use host_api::{
    CallContext, ChangeMetadata, CreateMachine, HostError, MachineFilter, Machines, Stop,
    UpdateMachine, WaitFor,
};
use model::id::{EventId, InstanceId, MachineId};
use model::life::State;
use std::sync::Arc;
use wire::machines::{
    ImageRef, Machine, MachineEvent, MachineVersion, Process, Started, WaitResult,
};

#[async_trait]
impl Machines for Worker {
    async fn create(
        &self,
        context: CallContext,
        create: CreateMachine,
    ) -> Result<Machine, HostError> {
        self.create_machine(context, create).await
    }

    async fn update(
        &self,
        context: CallContext,
        update: UpdateMachine,
    ) -> Result<Machine, HostError> {
        let (id, wanted, nonce) = (update.id, update.lease.clone(), context.lease_nonce.clone());
        let request = |reply| Request::Update(Box::new(update), nonce, reply);
        // No image is removed between the look at the machines and the new config.
        let images = async { Ok(self.0.images.read().await) };
        let _images = self.within(&context, images).await?;
        self.change(context.clone(), id, request).await?;
        let view = self.machine_handle(id)?.view();
        self.show_leased(&context, &view, wanted.as_ref()).await
    }

    async fn machine(&self, _context: CallContext, id: MachineId) -> Result<Machine, HostError> {
        Ok(self.show(&self.machine_handle(id)?.view(), false))
    }

    async fn machines(
        &self,
        _context: CallContext,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, HostError> {
        let mut views: Vec<Arc<View>> = self.0.handles().iter().map(Handle::view).collect();
        views.retain(|view| matches(&view.record, &filter, &self.0.context));
        views.sort_by_key(|view| (view.record.created_ms, view.record.id));
        let held = self.leases_for_list(&filter).await?;
        let shown = views.iter().map(|view| {
            let mut machine = self.show(view, filter.summary);
            machine.lease = leases::in_list(&held, view);
            machine
        });
        Ok(shown.chain(self.unreadable_machines(&filter)).collect())
    }

    async fn start(&self, context: CallContext, id: MachineId) -> Result<Started, HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            if self.is_done(&context).await? {
                return Ok(Started {
                    previous_state: handle.view().record.state.as_str().into(),
                    migrated: false,
                    new_host: String::new(),
                    resumed: false,
                });
            }
            let (key, guard) = (context.idempotency_key.clone(), Guard::of(&context));
            self.ask(&handle, key, guard, |reply| Request::Start(context.source, reply)).await
        };
        self.within(&context, call).await
    }

    async fn stop(&self, context: CallContext, id: MachineId, stop: Stop) -> Result<(), HostError> {
        let source = context.source;
        self.change(context, id, |reply| Request::Stop(stop, source, None, reply)).await
    }

    async fn suspend(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        let source = context.source;
        self.change(context, id, |reply| Request::Suspend(source, None, reply)).await
    }

    async fn restart(
        &self,
        context: CallContext,
        id: MachineId,
        stop: Stop,
        force: bool,
    ) -> Result<(), HostError> {
        let source = context.source;
        self.change(context, id, |reply| Request::Restart(stop, force, source, reply)).await
    }

    async fn signal(
        &self,
        context: CallContext,
        id: MachineId,
        signal: i32,
    ) -> Result<(), HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            if self.is_done(&context).await? {
                return Ok(());
            }
            if handle.view().record.state == State::Started {
                self.agent(id).await?;
            }
            let request = |reply| Request::Signal(signal, reply);
            self.ask(&handle, context.idempotency_key.clone(), Guard::Exempt, request).await
        };
        self.within(&context, call).await
    }

    async fn destroy(
        &self,
        context: CallContext,
        id: MachineId,
        force: bool,
    ) -> Result<(), HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            if handle.view().record.state == State::Destroyed {
                let text = format!("machine not found: {id} is destroyed");
                return Err(HostError::NotFound(text));
            }
            if !force {
                wait_for_stop(&handle).await;
            }
            let (key, guard) = (context.idempotency_key.clone(), Guard::of(&context));
            self.ask(&handle, key, guard, |reply| Request::Destroy(force, reply)).await
        };
        self.within(&context, call).await
    }

    async fn cordon(
        &self,
        context: CallContext,
        id: MachineId,
        cordoned: bool,
    ) -> Result<(), HostError> {
        self.change(context, id, |reply| Request::Cordon(cordoned, reply)).await
    }

    async fn change_metadata(
        &self,
        context: CallContext,
        id: MachineId,
        change: ChangeMetadata,
        version: Option<InstanceId>,
    ) -> Result<(), HostError> {
        let request = |reply| Request::Metadata(change, version, reply);
        self.change_leased(context, id, request).await
    }

    async fn events(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<MachineEvent>, HostError> {
        let id = self.machine_handle(id)?.view().record.id;
        let read = async {
            let events = self.0.context.db.events(id, limit, before).await;
            events.map_err(|err| HostError::Internal(rt::chain(&err)))
        };
        self.within(&context, read).await
    }

    async fn versions(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<MachineVersion>, HostError> {
        let id = self.machine_handle(id)?.view().record.id;
        let read = async {
            let versions = self.0.context.db.versions(id).await;
            versions.map_err(|err| HostError::Internal(rt::chain(&err)))
        };
        self.within(&context, read).await
    }

    async fn wait(
        &self,
        context: CallContext,
        id: MachineId,
        wanted: WaitFor,
    ) -> Result<WaitResult, HostError> {
        let views = self.machine_handle(id)?.views;
        self.within(&context, wait(views, &wanted)).await
    }

    async fn processes(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<Process>, HostError> {
        let read = async {
            let agent = self.agent(id).await?;
            agent.processes().await.map_err(|err| HostError::Internal(rt::chain(&err)))
        };
        self.within(&context, read).await
    }
}

/// A stop that was requested is waited for: a caller that stops a machine may destroy it next.
async fn wait_for_stop(handle: &Handle) {
    let mut views = handle.views.clone();
    let stops = |view: &View| {
        let record = &view.record;
        record.want != model::life::Want::Run && record.state == State::Stopping
    };
    // The deadline of the call bounds it; a task that has ended answers itself.
    let _ = views.wait_for(|view| !stops(view)).await;
}

impl Worker {
    /// Machines whose record cannot be read: from the columns of their row. Their
    /// labels are not known.
    fn unreadable_machines(&self, filter: &MachineFilter) -> Vec<Machine> {
        let region = &self.0.context.config.region;
        let wanted = |row: &&UnreadableRow| {
            filter.metadata.is_empty()
                && filter.app.is_none_or(|app| row.app_id == Some(app))
                // The organization of such a row is not known.
                && filter.org.is_none()
                && (filter.include_deleted || row.may_exist())
                && (filter.states.is_empty() || filter.states.contains(&row.state))
                && filter.region.as_ref().is_none_or(|wanted| wanted == region)
        };
        let rows = self.0.unreadable().iter().filter(wanted);
        rows.map(|row| self.show_unreadable(row)).collect()
    }

    fn show_unreadable(&self, row: &UnreadableRow) -> Machine {
        Machine {
            id: row.id.clone(),
            name: row.name.clone(),
            state: row.state.clone(),
            region: self.0.context.config.region.clone(),
            image_ref: ImageRef::default(),
            instance_id: String::new(),
            version: String::new(),
            private_ip: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
            config: None,
            incomplete_config: None,
            events: Vec::new(),
            checks: Vec::new(),
            containers: Vec::new(),
            busy_until: None,
            nonce: None,
            lease: None,
            host_status: "unknown".into(),
            host_features: Vec::new(),
            cordoned: false,
            isolation: None,
            private_ipv4: None,
            secrets_version: None,
            skip_secrets: false,
        }
    }

    pub(super) fn show(&self, view: &View, summary: bool) -> Machine {
        let about = self.0.context.hypervisor.about();
        let mut machine = view.machine(&self.0.context.config.region, &about.accelerator, summary);
        let record = &view.record;
        if !summary {
            machine.config = Some(self.0.context.volume_sizes.shown(record));
        }
        if record.state != State::Destroyed {
            let version = (record.instance, &*record.config, record.updated_ms);
            machine.checks = self.0.context.checks.shown(record.id, version);
        }
        machine
    }
}

fn matches(record: &Record, filter: &MachineFilter, host: &HostContext) -> bool {
    let labels = record.config.metadata.clone().unwrap_or_default();
    record.given_up.is_none()
        && filter.app.is_none_or(|app| app == record.app)
        && filter.org.is_none_or(|org| org == record.org)
        && (filter.include_deleted || record.state != State::Destroyed)
        && (filter.states.is_empty() || filter.states.iter().any(|s| s == record.state.as_str()))
        && filter.region.as_ref().is_none_or(|region| region == record.region(&host.config.region))
        && filter.metadata.iter().all(|(key, value)| labels.get(key) == Some(value))
}
