//! Volumes after a start: what a killed daemon left half done is finished.

use super::disks::volume_of;
use super::row::VolumeRow;
use crate::context::{HostContext, blocking};
use crate::db::VolumeChange;
use camino::Utf8PathBuf;
use model::volume::State;
use std::collections::BTreeSet;

/// Finishes what was begun: a disk that has its name is whole, and its volume is there; one that
/// has not, or that was to be removed, is removed. Books the space of all that stay.
///
/// A disk that no row names is left alone: it is never a leftover, as a row is written before its
/// disk and removed after it, but may be all that is left of a lost database.
///
/// # Errors
/// The database cannot be read.
pub(crate) async fn recover(host: &HostContext) -> Result<(), sqlite::Error> {
    let mut named = BTreeSet::new();
    for row in host.db.volumes().await? {
        let id = row.volume.id;
        named.insert(id);
        match row.state {
            State::Created => book(host, &row).await,
            State::Creating => finish(host, row).await?,
            State::PendingDestroy => remove(host, &row).await?,
        }
    }
    let dir = host.volumes_dir();
    let found = blocking(move || {
        let entries = dir.read_dir_utf8()?.flatten();
        let paths: Vec<Utf8PathBuf> = entries.map(|entry| entry.path().to_owned()).collect();
        Ok(paths)
    });
    for path in found.await.unwrap_or_default() {
        if volume_of(&path).is_some_and(|id| !named.contains(&id)) {
            tracing::warn!(%path, "the database names no such volume; its disk is left alone");
        }
    }
    Ok(())
}

async fn book(host: &HostContext, row: &VolumeRow) {
    let (id, size) = (row.volume.id, row.volume.size_gb);
    host.volume_sizes.set(id, Some(size));
    if let Err(err) = host.disks.book(&host.volume_path(id), row.bytes()).await {
        let error = rt::chain(&err);
        tracing::warn!(volume = %id, error, "more disk is promised than there is");
    }
}

/// A create that was cut off.
async fn finish(host: &HostContext, row: VolumeRow) -> Result<(), sqlite::Error> {
    let path = host.volume_path(row.volume.id);
    let is_whole = blocking(move || Ok(path.exists())).await.unwrap_or(false);
    if !is_whole {
        return remove(host, &row).await;
    }
    let row = VolumeRow { state: State::Created, ..row };
    let put = VolumeChange::Put(Box::new(row.clone()));
    host.db.change_volume(row.volume.id, |_| (put, ())).await?;
    book(host, &row).await;
    Ok(())
}

/// A disk that cannot be removed keeps its row: the next start tries again.
async fn remove(host: &HostContext, row: &VolumeRow) -> Result<(), sqlite::Error> {
    let id = row.volume.id;
    match host.remove_volume_disk(id).await {
        Ok(()) => host.db.change_volume(id, |_| (VolumeChange::Remove, ())).await,
        Err(err) => {
            tracing::warn!(volume = %id, error = %err, "cannot remove the disk of a volume");
            Ok(())
        }
    }
}
