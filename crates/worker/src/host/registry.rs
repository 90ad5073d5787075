//! The machines of the host, each with its task.

use super::creates::Creates;
use super::reclaims::Reclaims;
use super::retention::DestroyedBytes;
use super::uploads::Uploads;
use super::usage::Usage;
use crate::checks::monitor::monitor;
use crate::context::HostContext;
use crate::db::UnreadableRow;
use crate::machine::view::View;
use crate::machine::{self, AtStart, Handle, TaskEnd};
use crate::schedules::driver::drive;
use model::id::MachineId;
use model::lease::Lease;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// One host and its machines. Cheap to clone.
#[derive(Clone)]
pub struct Worker(pub(super) Arc<Host>);

impl Worker {
    pub(crate) fn context(&self) -> &HostContext {
        &self.0.context
    }

    /// All machines as they are now.
    pub(crate) fn views(&self) -> Vec<Arc<View>> {
        self.0.handles().iter().map(Handle::view).collect()
    }
}

pub(super) struct Host {
    pub(super) context: Arc<HostContext>,
    pub(super) usage: Usage,
    pub(super) creates: Creates,
    pub(super) reclaims: Reclaims,
    pub(super) destroyed_bytes: DestroyedBytes,
    /// Held to read while a machine is recorded that needs an image, and to write while
    /// images that no machine needs are removed.
    pub(super) images: tokio::sync::RwLock<()>,
    pub(super) uploads: Uploads,
    machines: RwLock<BTreeMap<MachineId, Handle>>,
    /// Machines whose record cannot be read; set once, at the start.
    unreadable: OnceLock<Vec<UnreadableRow>>,
}

impl Host {
    pub(in crate::host) fn new(context: Arc<HostContext>) -> Self {
        Self {
            context,
            usage: Usage::default(),
            creates: Creates::default(),
            reclaims: Reclaims::default(),
            destroyed_bytes: DestroyedBytes::default(),
            images: tokio::sync::RwLock::default(),
            uploads: Uploads::default(),
            machines: RwLock::default(),
            unreadable: OnceLock::new(),
        }
    }

    /// Starts the task of a machine; when it ends the machine is retired.
    pub(in crate::host) fn run_machine(
        self: &Arc<Self>,
        view: View,
        lease: Option<Lease>,
        at_start: AtStart,
    ) -> Handle {
        let id = view.record.id;
        if let Some(region) = &view.record.region {
            self.context.logs.set_region(&id.to_string(), region);
        }
        let (handle, task) = machine::new(&self.context, view, lease, at_start);
        self.insert(id, handle.clone());
        self.context.tasks.spawn_until_stop(monitor(self.context.clone(), handle.clone()));
        let requests = self.context.run_requests.register(id);
        let drive = drive(self.context.clone(), handle.clone(), requests);
        self.context.tasks.spawn_until_stop(drive);
        let (host, ended) = (self.clone(), handle.clone());
        self.context.tasks.spawn(async move {
            if task.await == TaskEnd::Destroyed {
                host.retire_machine(id, &ended).await;
            }
        });
        handle
    }

    pub(in crate::host) fn insert(&self, id: MachineId, handle: Handle) {
        self.machines.write().unwrap_or_else(PoisonError::into_inner).insert(id, handle);
    }

    pub(in crate::host) fn handle(&self, id: MachineId) -> Option<Handle> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(in crate::host) fn handles(&self) -> Vec<Handle> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.values().cloned().collect()
    }

    pub(in crate::host) fn set_unreadable(&self, rows: Vec<UnreadableRow>) {
        // It is set once.
        let _ = self.unreadable.set(rows);
    }

    /// Machines whose record cannot be read.
    pub(in crate::host) fn unreadable(&self) -> &[UnreadableRow] {
        self.unreadable.get().map_or(&[], Vec::as_slice)
    }

    /// A machine is destroyed. It can still be shown until its record is removed. If it
    /// has come back to this host meanwhile, route and log are the new one's.
    async fn retire_machine(&self, id: MachineId, ended: &Handle) {
        if self.handle(id).is_some_and(|handle| handle.views.same_channel(&ended.views)) {
            self.context.routes.publish(id, None);
            self.context.logs.trim(&id.to_string());
        }
        let bytes = ended.view().record.to_json().len();
        let max_bytes = self.destroyed_bytes.add(bytes.try_into().unwrap_or(u64::MAX));
        self.try_forget_destroyed(max_bytes).await;
    }

    /// Forgets what [`Self::forget_destroyed`] does. A failure is logged: the next pass tries
    /// again.
    pub(in crate::host) async fn try_forget_destroyed(&self, max_bytes: Option<u64>) {
        if let Err(err) = self.forget_destroyed(max_bytes).await {
            let error = rt::chain(&err);
            tracing::warn!(error, "cannot remove records of destroyed machines");
        }
    }

    /// Forgets machines that were destroyed long ago, and the oldest beyond `max_bytes` of
    /// records.
    pub(in crate::host) async fn forget_destroyed(
        &self,
        max_bytes: Option<u64>,
    ) -> Result<(), sqlite::Error> {
        let mut removed = self.context.forget_destroyed().await?;
        if let Some(max_bytes) = max_bytes {
            let (more, left) = self.context.db.forget_beyond(max_bytes).await?;
            removed.extend(more);
            self.destroyed_bytes.set(left);
        }
        for id in removed {
            self.context.logs.remove(&id);
            if let Ok(id) = id.parse::<MachineId>() {
                self.machines.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
        Ok(())
    }
}
