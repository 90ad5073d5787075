//! Changing a volume: what is kept about it, and its size.

use super::record::{self, Found};
use super::shown::of_host;
use crate::hosts::{self, CHANGE_TIMEOUT, within};
use crate::retry::change_record;
use crate::{Error, Platform};
use host_api::ChangeVolume;
use model::id::VolumeId;
use model::volume::{RETENTION_DAYS, SIZES_GB};
use store::records::{self, VolumeRecord};
use wire::machines::{ExtendVolume, UpdateVolume, Volume, VolumeExtended};

/// The record, as errors name it.
const WHAT: &str = "the volume's record";

/// Changes what is kept about a volume.
///
/// # Errors
/// There is no such volume, a value is not valid, or its host failed.
pub async fn update(
    platform: &Platform,
    app: &str,
    volume: &str,
    ask: UpdateVolume,
) -> Result<Volume, Error> {
    let Found { id, record, .. } = record::find(platform, app, volume).await?;
    check_retention(ask.snapshot_retention)?;
    let change = ChangeVolume {
        snapshot_retention: ask.snapshot_retention.filter(|days| *days > 0),
        auto_backup_enabled: ask.auto_backup_enabled,
    };
    let own = platform.clone();
    let changed = platform.run_detached(async move {
        let host = hosts::get(&own, record.host)?;
        let call = host.change_volume(own.context(CHANGE_TIMEOUT), id, change);
        let changed = within(CHANGE_TIMEOUT, call).await?;
        note(&own, id, |record| {
            record.snapshot_retention = changed.volume.snapshot_retention;
            record.auto_backup_enabled = changed.volume.auto_backup_enabled;
        })
        .await;
        Ok(of_host(record.host, &changed))
    });
    changed.await
}

/// A volume that was extended, and what the client is to know about it.
#[derive(Clone, Debug)]
pub struct Extended {
    /// The answer.
    pub answer: VolumeExtended,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Makes a volume larger. The size that it has is no change; it can be repeated after a failure.
///
/// # Errors
/// There is no such volume, the size is not valid, or the host has no room.
pub async fn extend(
    platform: &Platform,
    app: &str,
    volume: &str,
    ask: ExtendVolume,
) -> Result<Extended, Error> {
    let Found { id, record, .. } = record::find(platform, app, volume).await?;
    check_size("size_gb", ask.size_gb)?;
    let own = platform.clone();
    let (before, size) = (record.size_gb, ask.size_gb);
    let extended = platform.run_detached(async move {
        let host = hosts::get(&own, record.host)?;
        let call = host.extend_volume(own.context(CHANGE_TIMEOUT), id, size);
        let (extended, needs_restart) = within(CHANGE_TIMEOUT, call).await?;
        note(&own, id, |record| record.size_gb = record.size_gb.max(extended.volume.size_gb)).await;
        let volume = of_host(record.host, &extended);
        Ok::<_, Error>(VolumeExtended { volume, needs_restart })
    });
    let answer = extended.await?;
    let same = before == size && answer.volume.size_gb == size;
    let warning = format!("size_gb: the volume has {size} GB already; nothing was changed");
    Ok(Extended { answer, warnings: if same { vec![warning] } else { vec![] } })
}

/// Brings the record up to date with what the host has done. It is shown only while the host
/// does not answer, so a failure is no failure of the change.
async fn note(platform: &Platform, id: VolumeId, change: impl Fn(&mut VolumeRecord)) {
    let key = records::volume_key(id);
    let changed = change_record(platform, &key, WHAT, |mut record: VolumeRecord| {
        let before = record.clone();
        change(&mut record);
        (record != before).then_some(record)
    });
    if let Err(err) = changed.await {
        tracing::warn!(volume = %id, error = %err, "record a changed volume");
    }
}

/// A size that a volume can have.
pub(super) fn check_size(field: &str, size_gb: u32) -> Result<(), Error> {
    match SIZES_GB.contains(&size_gb) {
        true => Ok(()),
        false => {
            let (least, most) = (SIZES_GB.start(), SIZES_GB.end());
            Err(Error::invalid(field, format!("must be from {least} to {most}, not {size_gb}")))
        }
    }
}

/// Days that snapshots can be kept; 0 counts as absent.
pub(super) fn check_retention(days: Option<u32>) -> Result<(), Error> {
    match days.filter(|days| *days > 0) {
        Some(days) if !RETENTION_DAYS.contains(&days) => {
            let (least, most) = (RETENTION_DAYS.start(), RETENTION_DAYS.end());
            let rule = format!("must be from {least} to {most} days, not {days}");
            Err(Error::invalid("snapshot_retention", rule))
        }
        _ => Ok(()),
    }
}
