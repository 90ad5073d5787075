//! Volumes of the host.
//!
//! A row is written before its disk is made, and removed after its disk, so that each disk has
//! a row; `volumes::recovery` finishes what is cut off in between.

use crate::context::HostContext;
use crate::db::VolumeChange;
use crate::host::registry::Worker;
use crate::volumes::row::{VolumeRow, bytes};
use async_trait::async_trait;
use host_api::{
    CallContext, ChangeVolume, HostError, HostVolume, NewVolume, VolumeFilter, Volumes,
};
use model::id::VolumeId;
use model::volume::{Event, State};
use std::sync::Arc;

#[async_trait]
impl Volumes for Worker {
    async fn create_volume(
        &self,
        context: CallContext,
        volume: NewVolume,
    ) -> Result<HostVolume, HostError> {
        let host = self.0.context.clone();
        // A task of its own: the caller may leave at any moment.
        let made = self.detached(&context, async move { create(&host, volume).await }).await?;
        Ok(self.shown(vec![made]).await.remove(0))
    }

    async fn volume(&self, _context: CallContext, id: VolumeId) -> Result<HostVolume, HostError> {
        let found = self.0.context.db.volume(id).await.map_err(internal)?;
        let found = found.ok_or_else(|| not_found(id))?;
        Ok(self.shown(vec![found]).await.remove(0))
    }

    async fn volumes(
        &self,
        _context: CallContext,
        filter: VolumeFilter,
    ) -> Result<Vec<HostVolume>, HostError> {
        let mut rows = self.0.context.db.volumes().await.map_err(internal)?;
        rows.retain(|VolumeRow { volume, .. }| {
            filter.app.is_none_or(|app| app == volume.app)
                && filter.org.is_none_or(|org| org == volume.org)
        });
        Ok(self.shown(rows).await)
    }

    async fn change_volume(
        &self,
        _context: CallContext,
        id: VolumeId,
        change: ChangeVolume,
    ) -> Result<HostVolume, HostError> {
        let changed = self.0.context.db.change_volume(id, move |found| match found {
            None => (VolumeChange::Keep, Err(not_found(id))),
            Some(mut row) => {
                let volume = &mut row.volume;
                volume.snapshot_retention =
                    change.snapshot_retention.unwrap_or(volume.snapshot_retention);
                volume.auto_backup_enabled =
                    change.auto_backup_enabled.unwrap_or(volume.auto_backup_enabled);
                (VolumeChange::Put(Box::new(row.clone())), Ok(row))
            }
        });
        let row = changed.await.map_err(internal)??;
        Ok(self.shown(vec![row]).await.remove(0))
    }

    async fn extend_volume(
        &self,
        context: CallContext,
        id: VolumeId,
        size_gb: u32,
    ) -> Result<(HostVolume, bool), HostError> {
        let host = self.0.context.clone();
        let (row, grown) =
            self.detached(&context, async move { extend(&host, id, size_gb).await }).await?;
        let needs_restart = grown && self.has_vm(&row);
        Ok((self.shown(vec![row]).await.remove(0), needs_restart))
    }

    async fn destroy_volume(&self, context: CallContext, id: VolumeId) -> Result<(), HostError> {
        let host = self.0.context.clone();
        self.detached(&context, async move { destroy(&host, id).await }).await
    }
}

impl Worker {
    /// Runs work to its end, also if its caller leaves.
    async fn detached<T: Send + 'static>(
        &self,
        context: &CallContext,
        work: impl Future<Output = Result<T, HostError>> + Send + 'static,
    ) -> Result<T, HostError> {
        let work = self.0.context.tasks.spawn(work);
        let answer = async {
            let joined = work.await;
            joined.unwrap_or_else(|err| Err(HostError::Internal(rt::chain(&err))))
        };
        self.within(context, answer).await
    }

    async fn shown(&self, rows: Vec<VolumeRow>) -> Vec<HostVolume> {
        let ids = rows.iter().map(|row| row.volume.id).collect();
        let used = self.0.context.volume_bytes_used(ids).await;
        let shown = |row: VolumeRow| HostVolume {
            bytes_used: used.get(&row.volume.id).copied().unwrap_or(0),
            volume: row.volume,
            state: row.state,
            machine: row.machine,
            created_ms: row.created_ms,
        };
        rows.into_iter().map(shown).collect()
    }

    /// The machine of a volume has a VM, or the memory of one.
    fn has_vm(&self, row: &VolumeRow) -> bool {
        let handle = row.machine.and_then(|machine| self.0.handle(machine));
        handle.is_some_and(|handle| {
            let view = handle.view();
            view.record.boot.is_some() || view.record.snapshot.is_some()
        })
    }
}

/// What a create has found.
enum Begun {
    New(VolumeRow),
    Made(VolumeRow),
}

async fn create(host: &Arc<HostContext>, volume: NewVolume) -> Result<VolumeRow, HostError> {
    let (id, now, new) = (volume.id, host.clock.now_ms(), volume.clone());
    let begun = host.db.change_volume(id, move |found| match found {
        None => {
            let row =
                VolumeRow { volume: new, state: State::Creating, machine: None, created_ms: now };
            (VolumeChange::Put(Box::new(row.clone())), Ok(Begun::New(row)))
        }
        Some(row) if !row.is_of(&new) => {
            let why = format!("another volume of the id {id} exists");
            (VolumeChange::Keep, Err(HostError::Conflict(why)))
        }
        Some(row) if row.state == State::Created => (VolumeChange::Keep, Ok(Begun::Made(row))),
        Some(row) => {
            let why = format!("volume {id} is {}", row.state);
            (VolumeChange::Keep, Err(HostError::Busy(why)))
        }
    });
    let row = match begun.await.map_err(internal)?? {
        Begun::Made(row) => return Ok(row),
        Begun::New(row) => row,
    };
    match make_disk(host, &row).await {
        Ok(()) => Ok(VolumeRow { state: State::Created, ..row }),
        Err(err) => {
            abandon(host, id).await;
            Err(err)
        }
    }
}

/// Makes the disk of a volume, and records that it is there.
async fn make_disk(host: &HostContext, row: &VolumeRow) -> Result<(), HostError> {
    let (id, path) = (row.volume.id, host.volume_path(row.volume.id));
    let no_room = |err| HostError::NoCapacity(rt::chain(&err));
    host.disks.book(&path, row.bytes()).await.map_err(no_room)?;
    let made = host.disks.create_volume(&path, row.bytes(), row.volume.fstype).await;
    made.map_err(|err| HostError::Internal(rt::chain(&err)))?;
    let recorded = record_made(host, id).await;
    if recorded.is_err() {
        // It is this create's, and nothing has used it.
        let _ = host.remove_volume_disk(id).await;
    }
    recorded?;
    host.volume_sizes.set(id, Some(row.volume.size_gb));
    Ok(())
}

async fn record_made(host: &HostContext, id: VolumeId) -> Result<(), HostError> {
    let recorded = host.db.change_volume(id, move |found| {
        // It may have been destroyed meanwhile.
        let made = found.and_then(|row| Some((row.state.after(Event::Made).ok()?, row)));
        match made {
            Some((state, row)) => (VolumeChange::Put(Box::new(VolumeRow { state, ..row })), Ok(())),
            None => (VolumeChange::Keep, Err(not_found(id))),
        }
    });
    recorded.await.map_err(internal)?
}

/// Removes what there is of a volume that could not be made. What stays is removed at the next
/// start.
async fn abandon(host: &HostContext, id: VolumeId) {
    if let Err(err) = host.remove_unfinished_disk(id).await {
        return tracing::warn!(volume = %id, error = %err, "cannot remove the disk of a volume");
    }
    host.disks.unbook(&host.volume_path(id));
    if let Err(err) = host.db.change_volume(id, |_| (VolumeChange::Remove, ())).await {
        tracing::warn!(volume = %id, error = rt::chain(&err), "cannot forget a volume");
    }
}

/// Makes a volume larger: its disk takes the size with the next boot of its machine. False if it
/// had that size.
async fn extend(
    host: &HostContext,
    id: VolumeId,
    size_gb: u32,
) -> Result<(VolumeRow, bool), HostError> {
    let found = host.db.volume(id).await.map_err(internal)?.ok_or_else(|| not_found(id))?;
    let larger = checked_size(&found, size_gb)?;
    let path = host.volume_path(id);
    if larger && let Err(err) = host.disks.book(&path, bytes(size_gb)).await {
        return Err(HostError::NoCapacity(rt::chain(&err)));
    }
    let extended = host.db.change_volume(id, move |found| {
        let Some(mut row) = found else { return (VolumeChange::Keep, Err(not_found(id))) };
        match checked_size(&row, size_gb) {
            Err(refused) => (VolumeChange::Keep, Err(refused)),
            Ok(false) => (VolumeChange::Keep, Ok((row, false))),
            Ok(true) => {
                row.volume.size_gb = size_gb;
                (VolumeChange::Put(Box::new(row.clone())), Ok((row, true)))
            }
        }
    });
    let extended = extended.await.map_err(internal).flatten();
    match &extended {
        Ok((row, _)) => host.volume_sizes.set(id, Some(row.volume.size_gb)),
        Err(_) => {
            // The size that it has fits: it was booked before.
            let _ = host.disks.book(&path, found.bytes()).await;
        }
    }
    extended
}

/// Whether the size is larger than that of the volume.
fn checked_size(row: &VolumeRow, size_gb: u32) -> Result<bool, HostError> {
    let (id, now) = (row.volume.id, row.volume.size_gb);
    row.state.after(Event::Extend).map_err(|refused| HostError::Conflict(refused.to_string()))?;
    if size_gb < now {
        let why = format!("volume {id} has {now} GB and cannot be made smaller");
        return Err(HostError::Invalid(why));
    }
    Ok(size_gb > now)
}

async fn destroy(host: &HostContext, id: VolumeId) -> Result<(), HostError> {
    let marked = host.db.change_volume(id, move |found| {
        let Some(row) = found else { return (VolumeChange::Keep, Err(not_found(id))) };
        if let Some(machine) = row.machine {
            let why = format!(
                "volume {id} is attached to machine {machine}: destroy the machine first, or \
                 update it without the volume"
            );
            return (VolumeChange::Keep, Err(HostError::Conflict(why)));
        }
        match row.state.after(Event::Destroy) {
            Ok(state) => (VolumeChange::Put(Box::new(VolumeRow { state, ..row })), Ok(())),
            Err(refused) => (VolumeChange::Keep, Err(HostError::Conflict(refused.to_string()))),
        }
    });
    marked.await.map_err(internal)??;
    let removed = host.remove_volume_disk(id).await;
    removed.map_err(|err| HostError::Internal(format!("remove the disk of volume {id}: {err}")))?;
    host.disks.unbook(&host.volume_path(id));
    host.volume_sizes.set(id, None);
    let forget = host.db.change_volume(id, |_| (VolumeChange::Remove, ()));
    forget.await.map_err(internal)
}

fn internal(err: sqlite::Error) -> HostError {
    HostError::Internal(rt::chain(&err))
}

fn not_found(id: VolumeId) -> HostError {
    HostError::NotFound(format!("volume not found: {id}"))
}
