//! Destroying volumes: recorded first, so that one whose host is away, or that a crash has left
//! half destroyed, is destroyed later.

use super::record::{self, Found};
use super::shown::of_record;
use crate::hosts::{CHANGE_TIMEOUT, within};
use crate::retry::change_record;
use crate::{Error, Platform};
use host_api::HostError;
use model::id::{AppId, VolumeId};
use store::records::{self, VolumeRecord};
use store::{Op, Txn};
use wire::machines::Volume;

/// Destroys a volume with everything on it. The answer is the volume as it is last seen.
///
/// # Errors
/// There is no such volume, a machine has it, or its host failed.
pub async fn destroy(platform: &Platform, app: &str, volume: &str) -> Result<Volume, Error> {
    let Found { id, record, .. } = record::find(platform, app, volume).await?;
    let own = platform.clone();
    platform
        .run_detached(async move {
            mark(&own, id, true).await?;
            let destroyed = on_host(&own, id, &record).await;
            if let Err(refused) = destroyed {
                let in_doubt = match &refused {
                    HostError::Internal(_) | HostError::DeadlineExceeded(_) => true,
                    HostError::Unavailable { may_have_run, .. } => *may_have_run,
                    _ => false,
                };
                if !in_doubt {
                    mark(&own, id, false).await?;
                }
                return Err(refused.into());
            }
            forget(&own, record.app, id).await?;
            let record = VolumeRecord { destroying: true, ..record };
            Ok(of_record(id, &record, "ok"))
        })
        .await
}

/// Destroys a volume that its record names as one to be destroyed. False if a machine has it: then it
/// stays.
pub(crate) async fn finish(
    platform: &Platform,
    id: VolumeId,
    record: &VolumeRecord,
) -> Result<bool, Error> {
    match on_host(platform, id, record).await {
        Ok(()) => forget(platform, record.app, id).await.map(|()| true),
        Err(HostError::Conflict(_)) => mark(platform, id, false).await.map(|()| false),
        Err(err) => Err(err.into()),
    }
}

/// Destroys the volumes of an app that is being deleted and has no machine any more.
pub(crate) async fn destroy_all_of(platform: &Platform, app: AppId) -> Result<(), Error> {
    for (id, record) in record::of_app(platform, app).await? {
        mark(platform, id, true).await?;
        on_host(platform, id, &record).await?;
        forget(platform, app, id).await?;
    }
    Ok(())
}

/// A volume that its host does not have is destroyed.
async fn on_host(
    platform: &Platform,
    id: VolumeId,
    record: &VolumeRecord,
) -> Result<(), HostError> {
    let unknown = || HostError::unreachable(format!("host {} is not known", record.host));
    let host = platform.hosts().get(record.host).ok_or_else(unknown)?;
    let call = host.destroy_volume(platform.context(CHANGE_TIMEOUT), id);
    match within(CHANGE_TIMEOUT, call).await {
        Ok(()) | Err(HostError::NotFound(_)) => Ok(()),
        Err(err) => Err(err),
    }
}

async fn mark(platform: &Platform, id: VolumeId, destroying: bool) -> Result<(), Error> {
    let key = records::volume_key(id);
    let marked = change_record(platform, &key, "the volume's record", |record: VolumeRecord| {
        (record.destroying != destroying).then_some(VolumeRecord { destroying, ..record })
    });
    marked.await.map(drop)
}

async fn forget(platform: &Platform, app: AppId, id: VolumeId) -> Result<(), Error> {
    let then =
        vec![Op::delete(records::volume_key(id)), Op::delete(records::app_volume_key(app, id))];
    platform.store().txn(Txn { then, ..Txn::default() }).await?;
    Ok(())
}
