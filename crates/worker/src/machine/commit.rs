//! Durable changes of a machine: first in the database, then in its view.

use super::task::Task;
use super::view::View;
use crate::db::{Change, SaveError};
use crate::ports::Disks;
use crate::record::Record;
use host_api::HostError;
use model::life::Want;
use std::sync::Arc;
use std::time::Duration;
use wire::machines::MachineEvent;

impl Task {
    /// Makes a change durable and shows it, or does nothing.
    pub(super) async fn try_commit(
        &mut self,
        mut record: Record,
        events: Vec<MachineEvent>,
        new_version: bool,
    ) -> Result<(), HostError> {
        record.updated_ms = self.host.clock.now_ms();
        let call_key = self.call_key.take();
        let lease = self.call_lease.take();
        let change = Change { events: events.clone(), new_version, call_key, lease: lease.clone() };
        let mut saved = self.host.db.save(record.clone(), change.clone()).await;
        if matches!(saved, Err(SaveError::Database(_)))
            && release_disk_reserve(&self.host.disks).await
        {
            saved = self.host.db.save(record.clone(), change).await;
        }
        match saved {
            Ok(()) => {}
            // The change was made by the first of the two calls.
            Err(SaveError::Repeated) => {
                self.restore_reservation();
                return Ok(());
            }
            Err(SaveError::Volume(why)) => return Err(HostError::Conflict(why)),
            Err(SaveError::Database(err)) => return Err(HostError::Internal(rt::chain(&err))),
        }
        if lease.is_some() {
            self.lease = lease;
        }
        // A machine that is started again keeps its memory while it goes down.
        let unused = !record.state.holds_memory() && record.want != Want::Run;
        if unused && record.boot.is_none() {
            self.host.capacity.release(record.id);
        }
        if record.state != self.record.state {
            self.drained_early = false;
        }
        self.record = record.clone();
        self.show(|view| view.record(record, events));
        Ok(())
    }

    /// A request that changes nothing. The key of its call is noted all the same: its
    /// repetition must not be carried out after other requests.
    pub(super) async fn change_nothing(&mut self) -> Result<(), HostError> {
        self.note_call().await.map(drop)
    }

    /// Notes the key of the call, if it has one. False if it was carried out before.
    pub(super) async fn note_call(&mut self) -> Result<bool, HostError> {
        let Some(key) = self.call_key.take() else { return Ok(true) };
        let noted = self.host.db.begin_call(key, self.host.clock.now_ms()).await;
        noted.map_err(|err| HostError::Internal(rt::chain(&err)))
    }

    /// Makes a change durable that has already happened. It cannot be refused, so
    /// it is tried until it succeeds (a full disk) or the host stops; the next
    /// daemon then observes the same facts and derives the same change.
    pub(super) async fn commit(&mut self, record: Record, events: Vec<MachineEvent>) {
        let mut backoff = rt::Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while let Err(err) = self.try_commit(record.clone(), events.clone(), false).await {
            tracing::error!(machine = %record.id, error = %err, "cannot record a change");
            let pause = backoff.pause(&self.host.rng);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.host.tasks.stopping() => return,
            }
        }
    }

    /// Changes what others see.
    pub(super) fn show(&mut self, change: impl FnOnce(&mut View)) {
        let mut view = (**self.views.borrow()).clone();
        change(&mut view);
        self.views.send_replace(Arc::new(view));
        self.publish();
    }

    pub(super) fn publish(&self) {
        let route = self.views.borrow().route(&self.host.config.region);
        self.host.routes.publish(self.record.id, route);
    }
}

/// After a failed write: gives up the reserve of the disk, so that stops and
/// destroys can be recorded. True if there is more space now.
async fn release_disk_reserve(disks: &Arc<dyn Disks>) -> bool {
    let released = disks.release_reserve().await;
    released.unwrap_or_else(|err| {
        tracing::warn!(error = rt::chain(&err), "cannot release the reserve of the disk");
        false
    })
}
